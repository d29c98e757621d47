"""Test reads from a failing store. Short faults have no effect. Lasting faults raise an error."""

from __future__ import annotations

import io
import itertools
import random
import uuid
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skytext.archive import ReadOptions, Sample, Shard, discover, list_members, read_shard
from skytext.archive.storage.ranged_file import Window
from skytext.errors import SourceError, StoreFaultError
from tests.archive.formats.tars import make_tar
from tests.faulty_proxy import Answer, Faults, FaultyProxy, Request, Send, faulty_proxy

NAMES = [f"{index:02}.jpg" for index in range(40)]
IMAGES = {name: random.Random(name).randbytes(70_000) for name in NAMES}
IMPATIENT = ReadOptions(retry_s=0.2)
PLACES = {"tar": "s.tar", "folder": "07.jpg", "parquet": "s.parquet"}
FORMATS = sorted(PLACES)


@pytest.fixture(scope="module")
def running_proxy(s3_endpoint: str) -> Iterator[FaultyProxy]:
    with faulty_proxy(s3_endpoint) as proxy:
        yield proxy


@pytest.fixture
def proxy(
    s3: Any, running_proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultyProxy]:
    """Return a proxy in front of the S3 server. Retries do not wait.

    The bucket contains the same images in each format.
    """
    if "faulty" not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(Bucket="faulty")
        # Each image has a sidecar, so that no walk over the headers is needed.
        pairs = [((name, data), (f"{name[:2]}.json", "{}")) for name, data in IMAGES.items()]
        tar = make_tar(itertools.chain.from_iterable(pairs))
        s3.put_object(Bucket="faulty", Key="tar/s.tar", Body=tar)
        s3.put_object(Bucket="faulty", Key="parquet/s.parquet", Body=make_parquet())
        for name in NAMES:
            s3.put_object(Bucket="faulty", Key=f"folder/{name}", Body=IMAGES[name])
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda seconds: None)
    monkeypatch.delenv("AWS_MAX_ATTEMPTS", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", running_proxy.url)
    running_proxy.faults = Faults()
    running_proxy.counts.clear()
    yield running_proxy
    running_proxy.faults = Faults()


def make_parquet() -> bytes:
    buffer = io.BytesIO()
    cells = [{"path": name, "bytes": data} for name, data in IMAGES.items()]
    pq.write_table(pa.table({"image": cells}), buffer, row_group_size=10)
    return buffer.getvalue()


def find(source: str) -> Shard:
    (shard,) = discover([f"s3://faulty/{source}"])
    return shard


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.proof) for n in (1, 2))])
def test_transient_store_faults_lose_nothing(proxy: FaultyProxy, source: str, seed: int) -> None:
    proxy.faults = Faults(
        seed=seed,
        delay=0.05,
        delay_s=0.01,
        reset=0.15,
        truncate=0.1,
        server_error=0.1,
        slow_down=0.1,
        max_faults=12,
        max_in_a_row=4,
        pattern=r"\.(tar|jpg|parquet)",
    )
    assert {s.member: s.data for s in read_shard(find(source))} == IMAGES
    if source == "folder":
        assert proxy.num_faults == 12


@pytest.mark.parametrize("source", FORMATS)
def test_the_header_walk_recovers_too(proxy: FaultyProxy, source: str) -> None:
    shard = find(source)
    proxy.faults = Faults(seed=4, reset=0.2, truncate=0.1, slow_down=0.1, max_in_a_row=3)
    assert [m.member for m in list_members(shard)] == NAMES


def test_after_a_broken_body_one_range_is_read_again(proxy: FaultyProxy) -> None:
    shard = find("tar")
    before = proxy.counts["passed"]
    proxy.faults = Faults(reset=1.0, at_byte=500_000, max_faults=1, pattern="s.tar")
    assert len(list(read_shard(shard))) == len(NAMES)
    assert proxy.counts["reset"] == 1
    # The shard has 2.8 MB. The windows have 1 MiB and 2 MiB.
    assert proxy.counts["passed"] - before == 2


KINDS = {
    "slow_down": "returned SlowDown",
    "server_error": "returned InternalError",
    "expired": r"refuses access to .* \(ExpiredToken\)\. Renew the credentials",
    "truncate": "cannot reach the store|returned 500",  # botocore's message for a listing
    "reset": "cannot reach the store",
}


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_permanent_store_fault_fails_no_image(proxy: FaultyProxy, source: str, kind: str) -> None:
    """The fault starts at the first byte."""
    shard = find(source)
    proxy.faults = Faults(**{kind: 1.0}, at_byte=0, pattern=r"\.(tar|jpg|parquet)")
    met: list[Sample] = []
    refused = pytest.raises(StoreFaultError, match=rf"faulty/{source}/.*{KINDS[kind]}")
    # If one file is refused, the other files of its folder may still be readable.
    with nullcontext() if (source, kind) == ("folder", "expired") else refused:
        met.extend(read_shard(shard, options=IMPATIENT))
    assert all(sample.failure is None and sample.data is None for sample in met)
    if source != "folder":
        assert met == []
        with pytest.raises(StoreFaultError, match=KINDS[kind]):
            list(list_members(shard, options=IMPATIENT))


@pytest.mark.parametrize("source", ["tar", "parquet"])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_samples_before_a_fault_are_kept(
    proxy: FaultyProxy, source: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The next range is requested in advance. The fault affects this range or the range after it.
    window = Window(256 << 10, 256 << 10, reads_ahead=True)
    monkeypatch.setattr("skytext.archive.formats.tar.STREAMING", window)
    samples = read_shard(find(source), options=IMPATIENT)
    met = [next(samples)]
    proxy.faults = Faults(**{kind: 1.0}, at_byte=1000, pattern=r"\.(tar|parquet)")
    with pytest.raises(StoreFaultError, match=KINDS[kind]):
        met.extend(samples)
    assert 1 <= len(met) < len(NAMES)
    assert all(sample.data == IMAGES[sample.member] for sample in met)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_one_file_of_a_folder_that_is_not_given_is_unread(proxy: FaultyProxy, kind: str) -> None:
    shard = find("folder")
    proxy.faults = Faults(**{kind: 1.0}, at_byte=0, pattern="07.jpg")
    samples = list(read_shard(shard, options=IMPATIENT))
    assert [s.member for s in samples] == NAMES
    (unread,) = [s for s in samples if s.data is None]
    assert (unread.member, unread.failure) == ("07.jpg", None)
    with pytest.raises(AssertionError, match=KINDS[kind]):
        raise AssertionError(unread.fault)


@pytest.mark.parametrize("name", ["07.jpg", "07.json"])
def test_a_file_that_is_listed_and_never_found_is_unread(
    s3: Any, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    s3.create_bucket(Bucket=(bucket := uuid.uuid4().hex))
    for key in ("07.jpg", "07.json", "08.jpg"):
        s3.put_object(Bucket=bucket, Key=f"x/{key}", Body=b"{}")

    def hides(request: Request, send: Send) -> Answer:
        if request.path.endswith(f"/x/{name}"):
            body = "<Error><Code>NoSuchKey</Code><Message>no</Message></Error>"
            return Answer(404, {"Content-Type": "application/xml"}, body.encode())
        return send(request)

    with faulty_proxy(s3_endpoint, breach=hides) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        (shard,) = discover([f"s3://{bucket}/x"])
        hidden, other = read_shard(shard, options=IMPATIENT)
        assert (hidden.member, hidden.data, hidden.failure) == ("07.jpg", None, None)
        assert f"{name} is in the listing of the folder" in str(hidden.fault)
        assert (other.data, other.fault) == (b"{}", None)


def test_a_folder_is_given_up_after_many_faults_in_a_row(proxy: FaultyProxy) -> None:
    shard = find("folder")
    proxy.faults = Faults(slow_down=1.0, pattern=r"[12]\d.jpg")
    samples = read_shard(shard, options=IMPATIENT)
    with pytest.raises(StoreFaultError, match="16 consecutive files"):
        list(samples)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_listing_that_fails_is_reported_before_anything_starts(
    proxy: FaultyProxy, kind: str
) -> None:
    proxy.faults = Faults(**{kind: 1.0}, at_byte=10, pattern="list-type")
    with pytest.raises(
        SourceError, match=r"faulty/folder.*([Rr]un the command again|[Cc]redentials)"
    ):
        discover(["s3://faulty/folder"], options=IMPATIENT)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_folder_whose_listing_breaks_off_is_unread(
    proxy: FaultyProxy, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "20")  # the server runs in this process
    shard = find("folder")
    proxy.faults = Faults(**{kind: 1.0}, at_byte=10, pattern="continuation-token")
    met: list[Sample] = []
    with pytest.raises(StoreFaultError, match=KINDS[kind]):
        met.extend(read_shard(shard, options=IMPATIENT))
    assert [sample.member for sample in met] == NAMES[:19]  # more files of the last key may follow
    with pytest.raises(StoreFaultError, match=KINDS[kind]):
        list(list_members(shard, options=IMPATIENT))


def test_the_fault_schedule_depends_on_the_seed(proxy: FaultyProxy) -> None:
    def drawn(seed: int) -> list[str]:
        proxy.faults = Faults(seed=seed, reset=0.3, slow_down=0.3)
        return [proxy.draw("GET", "/x")[0] for _ in range(50)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert proxy.draw("PUT", "/x")[0] == "passed"
    with pytest.raises(ValueError, match="exceed 1"):
        Faults(reset=0.7, delay=0.4)
