from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from skytext.archive import (
    ChangedError,
    ReadOptions,
    UnavailableError,
    discover,
    fetch_image,
    list_members,
    read_shard,
)
from skytext.archive.storage.files import open_ranged
from skytext.archive.storage.gcs import _TIMEOUT_S, _session
from skytext.errors import SourceError, StoreFaultError
from tests.archive.formats.tars import make_tar
from tests.archive.storage.fake_gcs import GcsServer, serve_gcs
from tests.faulty_proxy import Answer, Faults, Request, Send, faulty_proxy

ENTRIES = [("a.jpg", b"a" * 3000), ("b.jpg", b"b" * 200_000)]


@pytest.fixture(scope="module")
def server() -> Iterator[GcsServer]:
    with serve_gcs() as server:
        yield server


@pytest.fixture(autouse=True)
def store(server: GcsServer, monkeypatch: pytest.MonkeyPatch) -> GcsServer:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server.answer_all(0)
    server.put("maps", "aerial/a.tar", make_tar(ENTRIES))
    server.put("maps", "aerial/north/x.jpg", b"x" * 10)
    server.put("maps", "aerial/north/x.json", b'{"gsd": 3}')
    server.put("maps", "aerial/README.md", b"hello")
    return server


def test_shards_and_folders_are_found_and_read() -> None:
    shards = discover(["gs://maps/aerial"])
    assert [(shard.archive, shard.path) for shard in shards] == [
        ("aerial", "a.tar"),
        ("aerial", "north/"),
    ]
    tar, folder = ([*read_shard(shard)] for shard in shards)
    assert [(sample.member, sample.data) for sample in tar] == ENTRIES
    assert [(sample.member, sample.data, sample.gsd) for sample in folder] == [
        ("x.jpg", b"x" * 10, 3.0)
    ]
    assert folder[0].uri == "gs://maps/aerial/north/x.jpg"
    for shard, samples in zip(shards, (tar, folder), strict=True):
        assert [m.image_id for m in list_members(shard)] == [s.image_id for s in samples]


@pytest.mark.parametrize("source", ["gs://maps/aerial/a.tar", "gs://maps/aerial/*.tar"])
def test_one_shard_has_one_name_however_it_is_reached(source: str) -> None:
    assert discover([source]) == discover(["gs://maps/aerial"])[:1]


def test_an_image_is_fetched_again_by_its_range(store: GcsServer) -> None:
    for shard in discover(["gs://maps/aerial"]):
        for sample in read_shard(shard):
            store.answer_all(0)
            data = fetch_image(
                sample.uri,
                sample.member,
                byte_offset=sample.byte_offset,
                byte_length=sample.byte_length,
                etag=sample.shard_etag,
            )
            assert data == sample.data
            assert any("bytes=" in request for request in store.answer_all(0))


def test_a_shard_that_changed_or_vanished_is_unread(store: GcsServer) -> None:
    (shard,) = discover(["gs://maps/aerial/a.tar"])
    for change in ("changed", "was deleted"):
        if change == "changed":
            store.put("maps", "aerial/a.tar", make_tar(ENTRIES[:1]))
        else:
            store.delete("maps", "aerial/a.tar")
        for read in (read_shard, list_members):
            with pytest.raises(StoreFaultError, match=f"{change} after it was listed"):
                list(read(shard))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("gs://nobucket/x", "does not exist"),
        ("gs://nobucket", "does not exist"),
        ("gs://maps/nothing", "does not exist"),
        ("gs://maps/*.tar", "matches nothing"),
    ],
)
def test_a_source_that_is_not_there_says_so(source: str, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        discover([source])
    assert "\n" not in str(caught.value)


ODD_NAMES = ("x y.jpg", "x%20y.jpg", "x#1.jpg", "x?v=1.jpg", "ü 🛰.jpg", "x@y:z.jpg", " x .jpg")


def test_odd_names_are_read_and_markers_of_folders_left_out(store: GcsServer) -> None:
    for name in ("", "a/", "none/", *ODD_NAMES, *(f"a/{name}" for name in ODD_NAMES)):
        store.put("odd", f"photos/{name}", name.encode())
    shards = discover(["gs://odd/photos"])
    assert [(shard.path, shard.uri) for shard in shards] == [
        ("./", "gs://odd/photos/"),
        ("a/", "gs://odd/photos/a/"),
    ]
    for shard in shards:
        samples = list(read_shard(shard))
        assert sorted(sample.member for sample in samples) == sorted(ODD_NAMES)
        assert [m.image_id for m in list_members(shard)] == [s.image_id for s in samples]
        for sample in samples:
            assert sample.data is not None
            assert sample.uri == f"gs://odd/photos/{sample.data.decode()}"
            place = {"byte_offset": 0, "byte_length": sample.byte_length}
            again = fetch_image(sample.uri, sample.member, etag=sample.shard_etag, **place)
            assert again == sample.data


def test_names_with_empty_parts_are_read_and_fetched_again(store: GcsServer) -> None:
    names = ("photos/a/x.jpg", "photos/a//x.jpg", "photos/a//s.tar", "/x.jpg")
    for name in names:
        store.put("slashes", name, make_tar([("t.jpg", b"t")]) if "tar" in name else name.encode())
    shards = discover(["gs://slashes/photos"])
    assert [shard.path for shard in shards] == ["a/", "a//", "a//s.tar"]
    samples = [sample for shard in shards for sample in read_shard(shard)]
    assert [sample.data for sample in samples] == [names[0].encode(), names[1].encode(), b"t"]
    for sample in samples:
        place = {"byte_offset": sample.byte_offset, "byte_length": sample.byte_length}
        assert fetch_image(sample.uri, sample.member, etag=sample.shard_etag, **place)
    assert [shard.path for shard in discover(["gs://slashes/photos/a//"])] == ["./", "s.tar"]
    (root,) = discover(["gs://slashes//"])
    assert [sample.data for sample in read_shard(root)] == [b"/x.jpg"]


def test_a_long_listing_comes_in_pages(store: GcsServer) -> None:
    for i in range(12):
        store.put("many", f"x/{i:02}.jpg", b"%d" % i)
    (shard,) = discover(["gs://many/x"])
    assert [sample.data for sample in read_shard(shard)] == [b"%d" % i for i in range(12)]


def test_an_object_replaced_between_two_requests_has_changed(store: GcsServer) -> None:
    """Bytes of two generations are never mixed."""
    (shard,) = discover(["gs://maps/aerial/a.tar"])
    with open_ranged(shard.uri, etag=shard.etag) as file:
        assert len(file.read(10)) == 10
        store.put("maps", "aerial/a.tar", make_tar(ENTRIES))
        with pytest.raises(ChangedError):
            file.read()


@pytest.mark.parametrize("fault", ["server_error", "slow_down", "reset", "truncate"])
def test_a_request_that_gets_no_answer_is_repeated(
    store: GcsServer, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    shards = discover(["gs://maps/aerial"])
    with faulty_proxy(store.url, Faults(seed=1, **{fault: 1.0}, max_in_a_row=1)) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        found = [sample.data for shard in shards for sample in read_shard(shard)]
        assert found == [*(data for _, data in ENTRIES), b"x" * 10]
        assert proxy.counts[fault] > 0


@pytest.mark.parametrize(("status", "is_away"), [(429, True), (503, True), (403, False)])
def test_an_answer_is_known_by_its_status(store: GcsServer, status: int, is_away: bool) -> None:
    (shard,) = discover(["gs://maps/aerial/a.tar"])
    store.answer_all(status)
    with pytest.raises(StoreFaultError) as caught:
        list(read_shard(shard, options=ReadOptions(retry_s=0.1)))
    assert isinstance(caught.value.__cause__, UnavailableError) is is_away


def test_without_credentials_access_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(SourceError, match="check GOOGLE_APPLICATION_CREDENTIALS"):
        discover(["gs://maps/aerial"])


def test_a_store_that_refuses_says_what_to_check(store: GcsServer) -> None:
    (shard,) = discover(["gs://maps/aerial/a.tar"])
    store.answer_all(403)
    with pytest.raises(SourceError, match="GOOGLE_APPLICATION_CREDENTIALS"):
        discover(["gs://maps/aerial"])
    with pytest.raises(StoreFaultError, match="Renew the credentials"):
        list(read_shard(shard))


def service_account(path: Path, token_uri: str) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    account = {"type": "service_account", "client_email": "a@b.c", "token_uri": token_uri}
    path.write_text(json.dumps(account | {"private_key": key.decode()}))


@pytest.mark.parametrize("status", [200, 400])
def test_requests_carry_a_token_of_the_service_account(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int
) -> None:
    asked: list[Request] = []

    def answer(request: Request, _: Send) -> Answer:
        asked.append(request)
        body = {"access_token": "secret", "expires_in": 3600} if status == 200 else {"error": "no"}
        return Answer(status, {"Content-Type": "application/json"}, json.dumps(body).encode())

    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
    with faulty_proxy("http://127.0.0.1:9", breach=answer) as proxy:
        service_account(tmp_path / "account.json", f"{proxy.url}/token")
        session, endpoint = _session()
        assert endpoint == "https://storage.googleapis.com"
        if status == 200:
            session.get(f"{proxy.url}/storage/v1/b/maps/o", timeout=_TIMEOUT_S, stream=True)
            assert [request.path for request in asked] == ["/token", "/storage/v1/b/maps/o"]
            assert asked[1].headers["authorization"] == "Bearer secret"
        else:
            with pytest.raises(SourceError, match=r"refuses access .*Renew the credentials"):
                discover(["gs://maps/aerial"])
