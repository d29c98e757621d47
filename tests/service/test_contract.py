from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.contract import check_contract


def test_the_application_keeps_its_contract(served: Path) -> None:
    assert check_contract(served, 25) >= 200


@pytest.mark.proof
def test_the_application_keeps_its_contract_in_20_000_cases(served: Path) -> None:
    assert check_contract(served, 2000) >= 20_000
