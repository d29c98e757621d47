"""Test that the synchronous client is the asynchronous client without ``await``."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.client.write_synchronous import TARGET, write_synchronous


def test_the_synchronous_client_is_up_to_date(tmp_path: Path) -> None:
    written = tmp_path / "synchronous.py"
    write_synchronous(written)
    expected, found = (ast.parse(path.read_text()) for path in (written, TARGET))
    assert ast.dump(found) == ast.dump(expected), "run: make client"
