"""Requests for shards, requests for state files and requests of Lance use keys of one session."""

from __future__ import annotations

import datetime as dt
import pickle
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytext.archive import discover, read_range, read_shard
from skytext.config.index import IndexConfig
from skytext.errors import JobError, SkytextError, SourceError, TableError
from skytext.table.commits.claim import hold
from skytext.table.commits.stage_rows import has_all_files
from skytext.table.images_dataset import ImagesTable, open_session
from skytext.table.indexes.build_indexes import build_indexes
from skytext.table.location import IMAGES, TableLocation
from skytext.table.runs_dataset import RunRecord, last_runs, record_run
from skytext.table.store.state_files import StateStore
from tests.archive.formats.tars import make_tar
from tests.aws.profiles import use_key, use_process, use_profile
from tests.faulty_proxy import FaultyProxy, Request, faulty_proxy
from tests.search.rankings import column, dense_question, rank
from tests.table.image_rows import commit_vectors, embed_numbers, stage_numbers
from tests.table.rows import DIM, committer, good_rows, stage

LIFE_S = 3
"""The lifetime of a short-lived key in seconds. Every wait in the tests is longer."""


@pytest.fixture
def store(s3: Any, s3_endpoint: str) -> Iterator[FaultyProxy]:
    """Run a proxy that records every request to the S3 server. The bucket contains a shard."""
    s3.create_bucket(Bucket="chain")
    shard = make_tar([("a.jpg", b"a" * 3000)])
    s3.put_object(Bucket="chain", Key="aerial/a.tar", Body=shard, ACL="public-read")
    with faulty_proxy(s3_endpoint) as proxy:
        yield proxy


@pytest.fixture
def where() -> TableLocation:
    return TableLocation.parse(f"s3://chain/{uuid.uuid4().hex}/t")


def read_the_archive() -> None:
    (shard,) = discover(["s3://chain/aerial"])
    (sample,) = read_shard(shard)
    assert sample.data == b"a" * 3000
    assert len(read_range(shard.uri, 512, 3000, etag=shard.etag)) == 3000


def write_a_table(where: TableLocation) -> ImagesTable:
    """Make the requests of a run, an index build and a search."""
    assert ImagesTable.find(where) is None
    with hold(where, "run", "caption", lease_s=60.0) as claim:
        writer = committer(where)
        writer.commit([stage(where, good_rows(0, 3))])
        writer.commit([stage(where, good_rows(3, 3))])
        replaced = good_rows(1, 1)
        writer.commit([stage(where, replaced, replaces={replaced[0]["image_id"]: "unit"})])
        left = stage(where, good_rows(9, 1))
        assert has_all_files(where, left)
        claim.check()
    embed_numbers(where, 0, 4)
    commit_vectors(where, ImagesTable.open(where).version, [stage_numbers(where, [1])])
    assert build_indexes(ImagesTable.open(where), IndexConfig()).promoted
    record_run(where, RunRecord("run", "caption", "done", dt.datetime(2026, 1, 1, tzinfo=dt.UTC)))
    assert [run.run_id for run in last_runs(where, 1)] == ["run"]
    return ImagesTable.open_served(where)


def search(table: ImagesTable) -> None:
    ranking = rank(table, dense_question(np.eye(DIM)[0]), 3)
    assert len(column(table, ranking)) == 3


def parts(requests: list[Request]) -> set[str]:
    """Return the parts of skytext that sent the requests. Each part uses different paths."""
    marks = {"/state": "state", "images.lance": "lance", "runs.lance": "lance", "aerial": "shards"}
    return {part for r in requests for mark, part in marks.items() if mark in r.path}


def assert_no_key_had_expired(requests: list[Request]) -> None:
    for request in requests:
        assert request.received_at <= int(request.key_id) + 1, request


def test_a_profile_is_enough_for_archive_table_and_search(
    store: FaultyProxy, where: TableLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_id = use_key(monkeypatch, tmp_path, store.url)
    read_the_archive()
    search(write_a_table(where))
    assert {request.key_id for request in store.requests} == {key_id}
    assert parts(store.requests) == {"shards", "state", "lance"}


def test_keys_that_expire_are_renewed_everywhere(
    store: FaultyProxy, where: TableLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_process(monkeypatch, tmp_path, store.url, LIFE_S)
    read_the_archive()
    table = write_a_table(where)
    writer, state = committer(where), StateStore(where)
    state.put("note", b"one")
    before = {request.key_id for request in store.requests}
    time.sleep(LIFE_S + 1.1)
    store.requests.clear()
    # The open table and the open writer still work. Runs and services keep tables open for hours.
    search(table)
    writer.commit([stage(where, good_rows(20, 2))])
    time.sleep(LIFE_S + 1.1)
    writer.commit([stage(where, good_rows(30, 2))])
    assert table.latest_version() == writer.version
    assert state.get("note") == b"one"
    read_the_archive()
    assert_no_key_had_expired(store.requests)
    assert not before & {request.key_id for request in store.requests}
    assert parts(store.requests) == {"shards", "state", "lance"}


def test_a_new_table_survives_the_expiry_of_its_first_keys(
    store: FaultyProxy, where: TableLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_process(monkeypatch, tmp_path, store.url, LIFE_S)
    writer = committer(where)
    writer.commit([stage(where, good_rows(0, 2))])
    time.sleep(LIFE_S + 1.1)
    writer.commit([stage(where, good_rows(2, 2))])
    assert_no_key_had_expired(store.requests)


def test_versions_that_share_caches_do_not_share_old_credentials(
    store: FaultyProxy, where: TableLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_key(monkeypatch, tmp_path, store.url)
    committer(where).commit([stage(where, good_rows(0, 2))])
    session = open_session()
    held = ImagesTable.open(where, None, session)
    use_process(monkeypatch, tmp_path, store.url, LIFE_S)
    monkeypatch.delenv("AWS_SHARED_CREDENTIALS_FILE")
    store.requests.clear()
    ImagesTable.open(where, None, session).status_counts()
    assert store.requests
    assert_no_key_had_expired(store.requests)
    assert held.num_rows() == 2


def test_an_open_table_shows_no_secret(
    store: FaultyProxy, where: TableLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_key(monkeypatch, tmp_path, store.url)
    committer(where).commit([stage(where, good_rows(0, 2))])
    table = ImagesTable.open(where)
    for shown in (pickle.dumps(table.dataset), repr(where.lance_options(IMAGES)).encode()):
        assert b"secret" not in shown
    assert "secret" not in repr(where.lance_ray_options(IMAGES))


def test_a_public_bucket_is_read_without_a_signature(
    store: FaultyProxy, where: TableLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_key(monkeypatch, tmp_path, store.url)
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    read_the_archive()
    assert ImagesTable.find(where) is None
    StateStore(where).put("note", b"one")
    assert {request.header("Authorization") for request in store.requests} == {None}
    assert parts(store.requests) == {"shards", "state", "lance"}


def test_requester_pays_is_sent_with_every_request(
    store: FaultyProxy, where: TableLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_key(monkeypatch, tmp_path, store.url)
    read_the_archive()
    assert {request.header("x-amz-request-payer") for request in store.requests} == {None}
    store.requests.clear()
    monkeypatch.setenv("AWS_REQUEST_PAYER", "requester")
    read_the_archive()
    discover(["s3://chain/aerial/a.tar"])
    search(write_a_table(where))
    for request in store.requests:
        assert request.header("x-amz-request-payer") == "requester", request
    # The header is signed, because a store refuses headers that were added after the signature.
    signed = {r.header("Authorization") for r in store.requests if "aerial" in r.path}
    assert all("x-amz-request-payer" in text for text in signed)
    assert {r.method for r in store.requests if "aerial" in r.path} == {"GET", "HEAD"}
    assert parts(store.requests) == {"shards", "state", "lance"}


def test_missing_keys_are_reported_in_one_line_with_advice(
    store: FaultyProxy, where: TableLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_profile(monkeypatch, tmp_path, store.url)
    calls: list[tuple[Any, type[SkytextError]]] = [
        (lambda: discover(["s3://chain/aerial"]), SourceError),
        (lambda: ImagesTable.find(where), TableError),
        (lambda: StateStore(where).get("note"), TableError),
        (lambda: stage(where, good_rows(0, 1)), TableError),
    ]
    for call, kind in calls:
        with pytest.raises(kind) as caught:
            call()
        message = str(caught.value)
        assert "\n" not in message
        for name in ("s3://", "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_NO_SIGN_REQUEST"):
            assert name in message
    assert store.requests == []


def test_keys_that_cannot_be_renewed_fail_the_work(
    store: FaultyProxy, where: TableLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_process(monkeypatch, tmp_path, store.url, LIFE_S)
    committer(where).commit([stage(where, good_rows(0, 1))])
    writer = committer(where)
    unit = stage(where, good_rows(1, 1))
    (tmp_path / "keys.sh").write_text("#!/bin/sh\necho logged out >&2\nexit 1\n")
    time.sleep(LIFE_S + 1.1)
    with pytest.raises(JobError, match="logged out"):
        StateStore(where).get("note")
    with pytest.raises(SkytextError, match="logged out"):
        writer.commit([unit])
    with pytest.raises(JobError, match="logged out"):
        where.short_lived_options(IMAGES)
