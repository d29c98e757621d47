"""A store that cannot hold a table is refused before anything else is written to the store."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from skytext.errors import TableError
from skytext.table.location import TableLocation
from skytext.table.store.state_files import StateStore
from skytext.table.store.store_preflight import check_store, try_store
from tests import broken_stores
from tests.faulty_proxy import Breach, faulty_proxy

NOBODY = 65534


@pytest.fixture
def where(s3: Any) -> TableLocation:
    s3.create_bucket(Bucket="preflight")
    return TableLocation.parse(f"s3://preflight/{uuid.uuid4().hex}/t")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Make an empty folder that every user may open."""
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield Path(path)


@contextmanager
def no_rights() -> Iterator[None]:
    """Run the block as a user without write permission, because root may write to any folder."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(mine)


def left_behind(s3: Any, where: TableLocation) -> list[str]:
    prefix = where.uri.removeprefix("s3://preflight/")
    found = s3.list_objects_v2(Bucket="preflight", Prefix=prefix).get("Contents", [])
    return [entry["Key"] for entry in found]


def test_a_conforming_store_is_accepted(s3: Any, where: TableLocation) -> None:
    ahead_s = check_store(where)
    assert ahead_s is not None
    assert abs(ahead_s) < 2
    assert left_behind(s3, where) == []


@pytest.mark.parametrize(
    ("breach", "rule", "seen"),
    [
        (
            broken_stores.ignores_conditions,
            "does not overwrite an object",
            "the object was overwritten",
        ),
        (
            broken_stores.RemembersReads(),
            "an overwritten object",
            "other bytes were returned",
        ),
        (
            broken_stores.looks_before_it_writes,
            "exactly one of several",
            r"[2-8] of 8 puts succeeded",
        ),
        (
            broken_stores.lists_late,
            "a listing contains every",
            "1 of 12 objects were missing, and 0 other objects were listed",
        ),
        (broken_stores.lists_backwards, "a listing is sorted by key", "the listing is not sorted"),
        (
            broken_stores.is_an_hour_ahead,
            "by at most 5 minutes",
            "the clock of the store is 60 minutes ahead",
        ),
    ],
    ids=["conditions", "stale reads", "contention", "late listing", "unsorted listing", "clock"],
)
def test_a_store_that_breaks_a_rule_is_rejected_with_the_rule(
    s3: Any,
    s3_endpoint: str,
    where: TableLocation,
    monkeypatch: pytest.MonkeyPatch,
    breach: Breach,
    rule: str,
    seen: str,
) -> None:
    with faulty_proxy(s3_endpoint, breach=breach) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        with pytest.raises(
            TableError,
            match=f"^{where.uri} cannot hold a table.*{rule}.*Observed: {seen}. What to do:",
        ) as refused:
            check_store(where)
    assert "\n" not in str(refused.value)
    assert left_behind(s3, where) == []


def test_directory_buckets_need_not_sort(
    s3: Any, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lance does not rely on the order of the keys in a directory bucket."""
    name = "tables--use1-az4--x-s3"
    # For such a bucket, boto3 would start a session. This server does not support sessions.
    requests.put(f"{s3_endpoint}/{name}", timeout=10).raise_for_status()
    with faulty_proxy(s3_endpoint, breach=broken_stores.lists_backwards) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        check_store(TableLocation.parse(f"s3://{name}/t"))


def test_a_missing_bucket_is_reported_in_one_line(s3: Any) -> None:
    seen = r"Observed: NoSuchBucket: The specified bucket does not exist. What to do: check"
    with pytest.raises(TableError, match=seen) as no:
        check_store(TableLocation.parse("s3://nobucket/t"))
    assert "\n" not in str(no.value)


def test_a_local_folder_is_accepted_and_not_changed(folder: Path) -> None:
    table = TableLocation.parse(str(folder / "new" / "table"))
    assert try_store(table) is None
    assert list(folder.iterdir()) == []
    StateStore(table).put("claim/00000001.json", b"held")
    try_store(table)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert names == ["new/table/state/claim/00000001.json"]
    check_store(table)
    assert [path.name for path in Path(table.uri, "state").iterdir()] == ["claim"]


@pytest.mark.parametrize("table", ["new", "."], ids=["new table", "folder that is there"])
def test_a_folder_that_cannot_be_written_is_refused_in_one_line(folder: Path, table: str) -> None:
    folder.chmod(0o555)
    with (
        no_rights(),
        pytest.raises(
            TableError, match=r"Observed: .*[Pp]ermission denied.* What to do: "
        ) as refused,
    ):
        check_store(TableLocation.parse(str(folder / table)))
    assert "\n" not in str(refused.value)
    assert list(folder.iterdir()) == []
