from __future__ import annotations

from pathlib import Path

import pytest

from skytext.table.location import TableLocation
from tests.service.tables import make_served_table, make_two_tables


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a small table next to its archive (``../archive``). Tests only read the table."""
    folder = tmp_path_factory.mktemp("service")
    make_served_table(folder)
    return folder / "table"


@pytest.fixture
def own(tmp_path: Path) -> TableLocation:
    """Make a small table and its archive for a single test."""
    make_served_table(tmp_path)
    return TableLocation.parse(str(tmp_path / "table"))


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """Make two tables for a single test."""
    return make_two_tables(tmp_path)


@pytest.fixture(scope="session")
def served_two(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Make two tables that tests only read."""
    return make_two_tables(tmp_path_factory.mktemp("two"))
