"""Test the service under load. The tests start the service in the same way as a user.

Versions change, and replicas are killed.
"""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from skytext.demo.shards import write_shards
from skytext.search import Searcher
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.versions.promote_rollback import promote, rollback
from tests.proof.commands import Command, command
from tests.proof.service_load import ANSWERED, is_normal, load, new_client, outcomes, say

NUM_CHANGES = int(os.environ.get("SKYTEXT_NUM_PROMOTIONS", "1000"))
# Two cores can answer the requests of this number of clients without rejecting a request.
NUM_CLIENTS = 3
NUM_IMAGES, NUM_MORE = 10_000, 2_000
RUN_S = 600
START_S = 180
PICKED_UP_S = 10
BACK_S = 60
WORDS = ("river", "harbour", "runway", "storage tanks", "forest", "bridge", "snow", "railway")
FAKES = ("--model", "fake", "--embedding-model", "fake")


@pytest.fixture(scope="module")
def two_versions(tmp_path_factory: pytest.TempPathFactory) -> tuple[TableLocation, int, int]:
    """Return a table with a version of 10,000 images, and a version with 2,000 more images."""
    folder = tmp_path_factory.mktemp("service")
    table = folder / "table"
    versions = []
    for seed, num_images in enumerate((NUM_IMAGES, NUM_MORE)):
        archive = folder / f"archive-{seed}"
        write_shards(archive, num_images=num_images, images_per_shard=500, seed=seed, image_px=32)
        for call in (["caption", archive, "--table", table, *FAKES], ["index", table]):
            with command(folder, *call) as run:
                assert run.finish(RUN_S) == 0, run.err
        versions.append(ImagesTable.open(TableLocation.parse(str(table))).version)
    return TableLocation.parse(str(table)), versions[0], versions[1]


@contextmanager
def serving(folder: Path, table: TableLocation) -> Iterator[tuple[str, Command]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = ["service.access.key_rate=null", "service.poll_interval_s=0.2"]
    given = [part for setting in settings for part in ("--set", setting)]
    url = f"http://127.0.0.1:{port}"
    with command(folder, "serve", table.uri, "--port", port, "--no-keys", *given) as service:
        end = time.monotonic() + START_S
        while not is_ready(url):
            assert service.process.poll() is None, service.err
            assert time.monotonic() < end, service.err
            time.sleep(0.5)
        yield url, service


def is_ready(url: str) -> bool:
    with new_client(url) as http:
        try:
            return http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False


def batches() -> list[dict[str, Any]]:
    """Return the bodies of the requests.

    Each request has two searches, so that a mix of two versions in one answer would be visible.
    """
    return [
        {"searches": [{"text": one, "k": 100}, {"text": other, "k": 100}]}
        for one in WORDS
        for other in WORDS
        if one != other
    ]


def found_by(table: TableLocation, version: int) -> dict[str, list[str]]:
    searcher = Searcher.open(table.uri, version=version)
    return {words: [hit.image_id for hit in searcher.search(words, 100).hits] for words in WORDS}


@pytest.mark.proof
@pytest.mark.timeout(7200)
def test_no_answer_fails_or_mixes_versions_under_load(
    tmp_path: Path,
    two_versions: tuple[TableLocation, int, int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    table, first, last = two_versions
    expected = {version: found_by(table, version) for version in (first, last)}
    assert all(expected[first][words] != expected[last][words] for words in WORDS)
    bodies, seen = batches(), Counter[int]()

    def check(number: int, answer: Any) -> None:
        (version,) = {one["table_version"] for one in answer["answers"]}
        for search, one in zip(bodies[number]["searches"], answer["answers"], strict=True):
            hits = [hit["image_id"] for hit in one["hits"]]
            assert hits == expected[version][search["text"]]
        seen[version] += 1

    promote(table, first)
    waited = []
    with serving(tmp_path, table) as (url, service):
        # The loop that requests the version is one more client.
        with load(url, bodies, NUM_CLIENTS - 1, check) as asked, new_client(url) as http:
            for change in range(NUM_CHANGES):
                to = last if change % 2 == 0 else first
                started = time.monotonic()
                promote(table, last) if to == last else rollback(table)
                while http.get("/v1/table").json()["table_version"] != to:
                    assert time.monotonic() - started < PICKED_UP_S
                    time.sleep(0.02)
                waited.append(time.monotonic() - started)
        service.process.terminate()
        assert service.finish(15) == 0, service.err
    say(
        capsys,
        f"{NUM_CHANGES} changes of version under {len(asked):,} requests ({seen[first]:,} and "
        f"{seen[last]:,} of each version): {outcomes(asked)}; picked up after "
        f"{sorted(waited)[len(waited) // 2]:.2f} s in the middle, {max(waited):.2f} s at most",
    )
    assert {one.outcome for one in asked} == {ANSWERED}
    assert set(seen) == {first, last}


@pytest.mark.proof
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", ["search", "embedding", "ingress"])
def test_a_part_that_dies_under_load_is_replaced(
    tmp_path: Path,
    two_versions: tuple[TableLocation, int, int],
    part: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table, _, _ = two_versions
    bodies = batches()
    with serving(tmp_path, table) as (url, service):
        with load(url, bodies, NUM_CLIENTS) as asked:
            time.sleep(10)
            (replica,) = [one for one in service.left() if is_replica(one, part)]
            replica.kill()
            killed = time.monotonic()
            time.sleep(BACK_S)
        service.process.terminate()
        assert service.finish(15) == 0, service.err
    after = [one for one in asked if one.ended > killed]
    failed = [one for one in after if one.outcome != ANSWERED]
    back_s = max((one.ended - killed for one in failed), default=0.0)
    # The slowest answer is also reported, because there may be no failed answer.
    slowest_s = max(one.ended - one.sent for one in after)
    say(
        capsys,
        f"{part} killed under load: {len(failed):,} of {len(after):,} requests failed "
        f"({outcomes(failed)}), the last {back_s:.1f} s after the kill; the slowest answer took "
        f"{slowest_s:.1f} s",
    )
    assert not any(one.outcome != ANSWERED for one in asked if one.ended <= killed)
    assert back_s < BACK_S / 2
    assert is_normal(after, killed + BACK_S)


def is_replica(process: psutil.Process, part: str) -> bool:
    try:
        title = (process.cmdline() or [""])[0]
        # While a replica is working, its title also contains the name of the method.
        return title.partition(".")[0] == f"ray::ServeReplica:skytext:{part}"
    except psutil.Error:
        return False
