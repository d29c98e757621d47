"""Reading through a store that fails: what heals, heals; what does not is a failed sample."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from skytext.archive import Sample, discover, list_members, read_shard
from skytext.errors import Reason, SourceError, Stage
from tests.archive.formats.tars import make_tar
from tests.faulty_proxy import Faults, FaultyProxy, faulty_proxy

NAMES = [f"{index:02}.jpg" for index in range(40)]
IMAGES = {name: random.Random(name).randbytes(70_000) for name in NAMES}


@pytest.fixture
def proxy(s3: Any, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A proxy before the S3 with an archive of one tar and one folder, without pauses."""
    if "faulty" not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(Bucket="faulty")
        s3.put_object(Bucket="faulty", Key="tar/s.tar", Body=make_tar(IMAGES.items()))
        for name in NAMES:
            s3.put_object(Bucket="faulty", Key=f"folder/{name}", Body=IMAGES[name])
    # The pauses between attempts, of botocore and of smart_open.
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)
    monkeypatch.delenv("AWS_MAX_ATTEMPTS", raising=False)
    with faulty_proxy(s3_endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


def read(source: str) -> list[Sample]:
    (shard,) = discover([f"s3://faulty/{source}"])
    return list(read_shard(shard))


@pytest.mark.parametrize("source", ["tar", "folder"])
@pytest.mark.parametrize("seed", range(3))
def test_what_a_store_gets_over_costs_nothing(proxy: FaultyProxy, source: str, seed: int) -> None:
    proxy.faults = Faults(
        seed=seed,
        delay=0.05,
        delay_s=0.01,
        reset=0.15,
        truncate=0.1,
        server_error=0.1,
        slow_down=0.1,
        max_faults=12,
        # An object is asked for five times.
        max_in_a_row=4,
        pattern=r"\.(tar|jpg)",
    )
    assert {s.member: s.data for s in read(source)} == IMAGES
    if source == "folder":
        assert proxy.num_faults == 12


def test_the_walk_gets_over_faults_too(proxy: FaultyProxy) -> None:
    (shard,) = discover(["s3://faulty/tar"])
    proxy.faults = Faults(seed=4, reset=0.2, truncate=0.1, slow_down=0.1)
    assert [m.member for m in list_members(shard)] == NAMES
    assert proxy.num_faults > 3


def test_a_broken_body_is_resumed_not_read_again(proxy: FaultyProxy) -> None:
    proxy.faults = Faults(reset=1.0, at_byte=1_500_000, max_faults=1, pattern="s.tar")
    assert len(read("tar")) == len(NAMES)
    assert proxy.counts["reset"] == 1
    # Discovery's and the reader's: one GET that broke, one that went on.
    assert proxy.counts["passed"] <= 4


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        (Faults(slow_down=1.0), "answered SlowDown 5 times"),
        (Faults(server_error=1.0), "answered InternalError 5 times"),
        (Faults(expired=1.0), r"refuses access \(ExpiredToken\): renew the credentials"),
        (Faults(truncate=1.0, at_byte=0), "after 5 attempts"),
        (Faults(reset=1.0, at_byte=0), "after 5 attempts"),
    ],
)
def test_a_store_that_fails_for_good_fails_the_shard(
    proxy: FaultyProxy, faults: Faults, words: str
) -> None:
    (shard,) = discover(["s3://faulty/tar"])
    proxy.faults = faults
    for failed in (*read_shard(shard), *list_members(shard)):
        assert failed.failure is not None
        assert failed.member == ""
        assert failed.failure.stage is Stage.READ
        assert failed.failure.reason is Reason.SHARD_UNREADABLE
        with pytest.raises(AssertionError, match=words):
            raise AssertionError(failed.failure.detail)
    assert proxy.num_faults <= 12


def test_what_came_before_the_fault_is_kept(proxy: FaultyProxy) -> None:
    (shard,) = discover(["s3://faulty/tar"])
    proxy.faults = Faults(truncate=1.0, at_byte=1_200_000, max_faults=1)
    samples = read_shard(shard)
    first = next(samples)
    proxy.faults = Faults(expired=1.0)
    rest = list(samples)
    assert first.data == IMAGES[first.member]
    assert 10 < len(rest) < len(NAMES)
    assert all(s.data == IMAGES[s.member] for s in rest[:-1])
    assert rest[-1].failure is not None
    assert "ExpiredToken" in rest[-1].failure.detail


def test_one_file_of_a_folder_that_cannot_be_read_costs_itself(proxy: FaultyProxy) -> None:
    (shard,) = discover(["s3://faulty/folder"])
    proxy.faults = Faults(slow_down=1.0, pattern="07.jpg")
    samples = list(read_shard(shard))
    assert [s.member for s in samples] == NAMES
    (failed,) = [s for s in samples if s.failure is not None]
    assert failed.member == "07.jpg"
    assert failed.failure is not None
    assert "SlowDown" in failed.failure.detail


def test_a_listing_that_fails_says_so_before_anything_starts(proxy: FaultyProxy) -> None:
    proxy.faults = Faults(slow_down=1.0)
    with pytest.raises(SourceError, match=r"503.*run again later"):
        discover(["s3://faulty/folder"])


def test_a_folder_whose_listing_fails_is_one_failure(proxy: FaultyProxy) -> None:
    (shard,) = discover(["s3://faulty/folder"])
    proxy.faults = Faults(slow_down=1.0, pattern="list-type")
    for failed in (*read_shard(shard), *list_members(shard)):
        assert failed.member == ""
        assert failed.failure is not None


def test_the_schedule_is_the_seeds(proxy: FaultyProxy) -> None:
    def drawn(seed: int) -> list[str]:
        proxy.faults = Faults(seed=seed, reset=0.3, slow_down=0.3)
        return [proxy.draw("GET", "/x")[0] for _ in range(50)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert proxy.draw("PUT", "/x")[0] == "passed"
    with pytest.raises(ValueError, match="exceed 1"):
        Faults(reset=0.7, delay=0.4)
