from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skytext.errors import CallError, ConfigError, TableError
from skytext.service.served_tables import TableSet, parse_version, version_token
from skytext.table.location import TableLocation
from skytext.table.versions.promote_rollback import promote
from tests.service.tables import embed_again


@pytest.mark.parametrize(
    ("addresses", "names"),
    [
        (["/data/aerial"], ("aerial",)),
        (["s3://bucket", "/data/aerial/"], ("bucket", "aerial")),
        (["/2023/aerial", "/2024/aerial", "/x/sea"], ("2023/aerial", "2024/aerial", "sea")),
        (["/aerial", "/x/aerial"], ("aerial", "x/aerial")),
        (["s3://b/t", "/x/b/t"], ("b/t", "x/b/t")),
        (["s3://b/t", "gs://b/t", "/b/t"], ("s3://b/t", "gs://b/t", "b/t")),
    ],
)
def test_a_name_is_the_shortest_end_of_an_address_that_no_other_has(
    addresses: list[str], names: tuple[str, ...]
) -> None:
    tables = TableSet.parse(addresses)
    assert tables.names == names
    assert [tables.place(name) for name in names] == list(range(len(names)))


def test_tables_are_named_once_and_by_their_names() -> None:
    with pytest.raises(CallError, match="named twice"):
        TableSet.parse(["/data/aerial", "/data/aerial/"])
    with pytest.raises(CallError, match="name at least one table"):
        TableSet.parse([])
    tables = TableSet.parse(["/data/aerial", "/data/sea"])
    with pytest.raises(CallError, match="table must be one of aerial, sea"):
        tables.place("/data/aerial")
    with pytest.raises(CallError, match="table is required, and must be one of aerial, sea"):
        tables.place_or_only(None)
    assert tables.place_or_only("sea") == 1
    assert TableSet.parse(["/data/aerial"]).place_or_only(None) == 0


def test_an_address_is_replaced_before_one_that_it_begins_with() -> None:
    tables = TableSet.parse(["/data/t", "/data/t2"])
    message = "/data/t2 and /data/t differ: data/t2/x"
    for name, shown in tables.private_names.items():
        message = message.replace(name, shown)
    assert message == "t2 and t differ: t2/x"


@pytest.mark.parametrize(("versions", "token"), [((42,), 42), ((42, 7), "42,7")])
def test_a_version_travels_as_a_number_or_as_numbers(versions: Any, token: Any) -> None:
    assert version_token(versions) == token
    assert parse_version(token) == parse_version(str(token)) == versions
    assert parse_version(None) is None


def test_tables_of_several_models_are_refused_in_one_line(two: list[Path]) -> None:
    tables = TableSet.parse([str(one) for one in two])
    assert [one.location for one in tables.open_served()] == list(tables.locations)
    last = TableLocation.parse(str(two[1]))
    promote(last, embed_again(last, "fake:dim=24").version)
    with pytest.raises(TableError, match="Search each table alone") as caught:
        tables.open_served()
    assert "\n" not in str(caught.value)


def test_a_version_is_of_a_single_table(two: list[Path]) -> None:
    tables = TableSet.parse([str(one) for one in two])
    with pytest.raises(ConfigError, match="--version"):
        tables.open_served(1)
