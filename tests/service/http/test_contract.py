from __future__ import annotations

import pytest

from skytext.table.location import TableLocation
from tests.service.http.contract import check_contract


def test_the_application_keeps_its_contract(own: TableLocation) -> None:
    assert check_contract(own.uri, 25) >= 200


@pytest.mark.proof
@pytest.mark.timeout(3600)
def test_the_application_keeps_its_contract_in_20_000_cases(own: TableLocation) -> None:
    assert check_contract(own.uri, 2000) >= 20_000
