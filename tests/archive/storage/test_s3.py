from __future__ import annotations

import socket
from typing import Any

import botocore.response
import pytest
from botocore.exceptions import ReadTimeoutError

from skytext.archive import ReadOptions, Shard, discover, image_id, read_range, read_shard
from skytext.archive.storage import s3 as storage
from skytext.errors import Reason, SourceError, StoreFaultError
from tests.archive.formats.tars import make_tar

ENTRIES = [("a.jpg", b"a" * 3000), ("b.jpg", b"b" * 200_000), ("b.json", {"gsd": 10})]
IMPATIENT = ReadOptions(retry_s=0.3)
SHARDS = ("aerial/a.tar", "aerial/b.tar", "aerial/north/c.tar", "top.tar")


@pytest.fixture(autouse=True)
def store(s3: Any) -> Any:
    """Create the bucket ``maps`` with some shards. Return a client for the S3 server."""
    s3.create_bucket(Bucket="maps")
    for key in SHARDS:
        s3.put_object(Bucket="maps", Key=key, Body=make_tar(ENTRIES))
    s3.put_object(Bucket="maps", Key="aerial/README.md", Body=b"hello")
    s3.put_object(Bucket="maps", Key="aerial/", Body=b"")
    return s3


def places(shards: list[Shard]) -> list[tuple[str, str]]:
    return [(shard.archive, shard.path) for shard in shards]


def test_a_prefix_is_a_folder(store: Any) -> None:
    shards = discover(["s3://maps/aerial"])
    assert places(shards) == [("aerial", "a.tar"), ("aerial", "b.tar"), ("aerial", "north/c.tar")]
    head = store.head_object(Bucket="maps", Key="aerial/a.tar")
    assert shards[0].uri == "s3://maps/aerial/a.tar"
    assert shards[0].size_bytes == head["ContentLength"]
    assert shards[0].etag == head["ETag"].strip('"')


@pytest.mark.parametrize(
    "source",
    [
        "s3://maps/aerial/",
        "s3://maps/aerial/a.tar",
        "s3://maps/aerial/*.tar",
        "s3://maps/aerial/?.*",
    ],
)
def test_one_shard_has_one_name_however_it_is_reached(source: str) -> None:
    assert discover(["s3://maps/aerial"])[0] == discover([source])[0]


def test_a_bucket_is_an_archive() -> None:
    for source in ("s3://maps", "s3://maps/"):
        assert places(discover([source])) == [("maps", key) for key in SHARDS]
    assert places(discover(["s3://maps/top.tar"])) == [("maps", "top.tar")]
    assert places(discover(["s3://maps/*.tar"])) == [("maps", "top.tar")]


def test_a_wildcard_stays_within_a_folder() -> None:
    assert places(discover(["s3://maps/*/*.tar"])) == [
        ("maps", "aerial/a.tar"),
        ("maps", "aerial/b.tar"),
    ]
    assert places(discover(["s3://maps/aerial/n*/c.tar"])) == [("aerial", "north/c.tar")]


def test_hidden_folders_are_left_out(store: Any) -> None:
    keys = [f"aerial/{name}" for name in (".ipynb_checkpoints/a.tar", "__MACOSX/b.tar", ".c/d.jpg")]
    for key in keys:
        store.put_object(Bucket="maps", Key=key, Body=make_tar(ENTRIES))
    assert len(discover(["s3://maps/aerial"])) == 3
    # A hidden folder is read if the source names it.
    assert len(discover(["s3://maps/aerial/.ipynb_checkpoints/"])) == 1
    for key in keys:
        store.delete_object(Bucket="maps", Key=key)


def test_a_prefix_ends_at_a_folder(store: Any) -> None:
    store.put_object(Bucket="maps", Key="aerial2/z.tar", Body=b"")
    assert len(discover(["s3://maps/aerial"])) == 3
    store.delete_object(Bucket="maps", Key="aerial2/z.tar")


def test_a_local_copy_has_the_same_ids(tmp_path: Any) -> None:
    (tmp_path / "aerial").mkdir()
    (tmp_path / "aerial" / "a.tar").write_bytes(make_tar(ENTRIES))
    there = [s.image_id for s in read_shard(discover(["s3://maps/aerial"])[0])]
    here = [s.image_id for s in read_shard(discover([str(tmp_path / "aerial")])[0])]
    assert there == here == [image_id("aerial", "a.tar", f"{n}.jpg", 0) for n in "ab"]


def test_images_are_read_and_fetched_again_by_their_range() -> None:
    (shard,) = discover(["s3://maps/aerial/a.tar"])
    samples = list(read_shard(shard))
    assert [(s.member, s.data) for s in samples] == ENTRIES[:2]
    assert samples[1].gsd == 10.0
    assert samples[0].uri == "s3://maps/aerial/a.tar#a.jpg"
    for sample in samples:
        assert sample.byte_offset is not None
        assert sample.byte_length is not None
        again = read_range(shard.uri, sample.byte_offset, sample.byte_length, etag=shard.etag)
        assert again == sample.data


def watch_ranges(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that collects the requested ranges."""
    asked: list[str] = []
    make = storage._client

    class Client:
        def __getattr__(self, name: str) -> Any:
            return getattr(make(), name)

        @staticmethod
        def get_object(**arguments: Any) -> Any:
            asked.append(arguments["Range"])
            return make().get_object(**arguments)

    monkeypatch.setattr(storage, "_client", Client)
    return asked


def test_a_range_is_one_request_for_exactly_these_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = watch_ranges(monkeypatch)
    assert len(read_range("s3://maps/aerial/a.tar", 512, 3000)) == 3000
    assert asked == ["bytes=512-3511"]
    with pytest.raises(OSError, match="shorter"):
        read_range("s3://maps/aerial/README.md", 2, 400)


@pytest.mark.parametrize(
    "key", ["a b#c%20.tar", "ü 🛰.tar", "w@x:y@z.tar", "q?versionId=7.tar", "/s.tar", "a//s.tar"]
)
def test_odd_keys_are_read(store: Any, key: str) -> None:
    store.put_object(Bucket="maps", Key=f"odd/{key}", Body=make_tar(ENTRIES))
    (shard,) = discover(["s3://maps/odd/"])
    assert shard.path == key
    assert [s.member for s in read_shard(shard)] == ["a.jpg", "b.jpg"]
    store.delete_object(Bucket="maps", Key=f"odd/{key}")


def test_a_range_whose_body_breaks_is_requested_again(monkeypatch: pytest.MonkeyPatch) -> None:
    (shard,) = discover(["s3://maps/aerial/a.tar"])
    original = botocore.response.StreamingBody.read
    breaks = iter([True, True])

    def flaky(self: Any, amt: int | None = None) -> bytes:
        if next(breaks, False):
            raise ReadTimeoutError(endpoint_url="http://127.0.0.1")
        return bytes(original(self, amt))

    asked = watch_ranges(monkeypatch)
    monkeypatch.setattr(botocore.response.StreamingBody, "read", flaky)
    samples = list(read_shard(shard))
    assert [(s.member, s.data) for s in samples] == ENTRIES[:2]
    # The further requests read headers, because one image has no sidecar beside it.
    assert asked[:3] == [f"bytes=0-{shard.size_bytes - 1}"] * 3
    assert len(set(asked[3:])) == len(asked[3:])


def test_a_shard_that_changed_or_vanished_is_unread(store: Any) -> None:
    store.put_object(Bucket="maps", Key="new/s.tar", Body=make_tar(ENTRIES))
    (shard,) = discover(["s3://maps/new"])
    store.put_object(Bucket="maps", Key="new/s.tar", Body=make_tar(ENTRIES[:1]))
    for words in ("changed after it was listed", "was deleted after it was listed"):
        with pytest.raises(StoreFaultError, match=rf"new/s\.tar was not read.*{words}"):
            list(read_shard(shard))
        store.delete_object(Bucket="maps", Key="new/s.tar")


def test_an_empty_object_is_one_failure(store: Any) -> None:
    store.put_object(Bucket="maps", Key="zero/s.tar", Body=b"")
    (failed,) = read_shard(discover(["s3://maps/zero"])[0])
    assert failed.failure is not None
    assert failed.failure.reason is Reason.SHARD_UNREADABLE
    store.delete_object(Bucket="maps", Key="zero/s.tar")


def test_a_listing_of_many_pages_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "1")  # the server runs in this process
    assert len(discover(["s3://maps/aerial"])) == 3
    assert len(discover(["s3://maps"])) == 4


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("s3://nobucket/x", "bucket 'nobucket' does not exist"),
        ("s3://nobucket/x/*.tar", "bucket 'nobucket' does not exist"),
        ("s3://nobucket", "bucket 'nobucket' does not exist"),
        ("s3://maps/nothing", "does not exist"),
        ("s3://maps/nothing.tar", "does not exist"),
        ("s3://maps/aerial/*.zip", "matches nothing"),
        ("s3://maps/aerial/README.md", "unknown format"),
        ("s3://Not_A_Bucket!/x", "S3 access does not work"),
    ],
)
def test_a_source_that_is_not_there_says_so(source: str, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        discover([source])
    assert source in str(caught.value)
    assert "\n" not in str(caught.value)


def refuse(monkeypatch: pytest.MonkeyPatch, store: Any, code: str) -> None:
    """Make the store answer every request with this error."""
    from botocore.exceptions import ClientError

    def answer(*_: Any, **__: Any) -> Any:
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, "ListObjectsV2")

    class Refusing:
        head_object = list_objects_v2 = staticmethod(answer)

    monkeypatch.setattr(storage, "_client", Refusing)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("AccessDenied", "refuses access .*AWS_PROFILE"),
        ("403", "refuses access"),
        ("InvalidAccessKeyId", "refuses access"),
        ("SlowDown", "the store returned .*SlowDown"),
    ],
)
def test_each_refusal_of_a_store_has_its_own_message(
    monkeypatch: pytest.MonkeyPatch, store: Any, code: str, message: str
) -> None:
    refuse(monkeypatch, store, code)
    for source in ("s3://maps/aerial", "s3://maps/a.tar", "s3://maps/*.tar"):
        with pytest.raises(SourceError, match=message):
            discover([source], options=IMPATIENT)


def test_an_endpoint_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    with pytest.raises(SourceError, match=f"cannot reach the store at http://127.0.0.1:{port}"):
        discover(["s3://maps/aerial"], options=IMPATIENT)
    shard = Shard("maps", "s3://maps/a.tar", "a.tar", 0, "")
    with pytest.raises(StoreFaultError, match="cannot reach the store"):
        list(read_shard(shard, options=IMPATIENT))


def test_missing_credentials_say_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(SourceError, match=r"no complete AWS credentials.*AWS_ACCESS_KEY_ID"):
        discover(["s3://maps/aerial"])


def test_an_unknown_profile_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(SourceError, match="nobody"):
        discover(["s3://maps/aerial"])
