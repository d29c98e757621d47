"""The header walk lists the same members as the reader, but fetches only a few bytes."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skytext.archive import (
    Member,
    ReadLimits,
    Sample,
    Shard,
    ShardCounts,
    discover,
    list_members,
    read_shard,
)
from skytext.archive.formats import tar as tar_module
from skytext.errors import StoreFaultError
from tests.archive.formats.tars import link, make_tar, write_shard


def fields_of(one: Member | Sample) -> tuple[Any, ...]:
    etag = one.etag if isinstance(one, Member) else one.shard_etag
    place = (one.byte_offset, one.byte_length, one.row_group, one.row)
    return (one.image_id, one.member, one.uri, etag, *place, str(one.failure))


def assert_same(shard: Shard, limits: ReadLimits | None = None) -> list[Member]:
    walked = list(list_members(shard, limits))
    assert [fields_of(m) for m in walked] == [
        fields_of(s) for s in read_shard(shard, limits=limits)
    ]
    return walked


def loose(path: Path, data: bytes) -> Shard:
    path.write_bytes(data)
    stat = path.stat()
    return Shard("a", path.as_uri(), "s.tar", stat.st_size, f"{stat.st_size}-{stat.st_mtime_ns}")


@pytest.mark.parametrize(
    "tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT]
)
def test_the_walk_lists_what_the_reader_reads(tmp_path: Path, tar_format: int) -> None:
    entries = [
        ("a.jpg", b"a" * 700),
        ("a.json", {"v": 1}),
        ("big.png", b"b" * 200_000),
        ("a.jpg", b"c"),
        ("jpg", b"no dot"),
        ("d/" * 40 + "n" * 80 + ".tif", b"x" * 70_000),
        ("e.webp", b""),
        ("notes.csv", b"x" * 90_000),
        ("big.txt", b"t" * 90_000),
    ]
    shard = write_shard(tmp_path / "s.tar", make_tar(entries, tar_format))
    walked = assert_same(shard)
    assert len(walked) == 6
    limits = ReadLimits(max_member_bytes=1000, max_group_bytes=2000, max_sidecar_bytes=1000)
    assert sum(m.failure is not None for m in assert_same(shard, limits)) == 2


@pytest.mark.parametrize(
    ("num", "size", "most"),
    [(200, 300_000, 200 * 8192), (2000, 2000, 2000 * 3584 + 5_000_000)],
    ids=["large", "small"],
)
def test_only_headers_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num: int, size: int, most: int
) -> None:
    shard = write_shard(tmp_path / "s.tar", [(f"{i}.jpg", b"x" * size) for i in range(num)])
    files, fetches = [], []
    open_ranged = tar_module.open_ranged

    def watch(*args: Any, **kwargs: Any) -> Any:
        files.append(open_ranged(*args, **kwargs))
        fetch = files[0]._fetch
        files[0]._fetch = lambda *where: fetches.append(where) or fetch(*where)
        return files[0]

    monkeypatch.setattr(tar_module, "open_ranged", watch)
    assert len(list(list_members(shard))) == num
    assert files[0].num_fetched_bytes <= most
    assert len(fetches) <= num + 5
    if size < 64 << 10:
        assert len(fetches) < 20  # small members are fetched together with the headers


BASE = make_tar(
    [
        ("x/a.jpg", b"a" * 700),
        ("x/a.json", {"gsd": 1}),
        ("ü" * 90 + ".png", b"b" * 1024),
        ("b.txt", b"t" * 300),
        ("b.tif", b"c" * 5000),
        ("c.cls", b"1"),
        ("b.tif", b"d"),
    ],
    tarfile.PAX_FORMAT,
)
LINKS = make_tar(
    [
        link("before.jpg", "x/a.jpg"),
        ("x/a.jpg", b"a" * 700),
        link("hard.jpg", "x/a.jpg", tarfile.LNKTYPE),
        link("x/lost.jpg", "missing.jpg"),
        link("x/a.json", "../b.json"),
        link("step", "before.jpg"),
        link("steps.png", "step"),
        ("b.jpg", b"b" * 5000),
        (".h.jpg", b"h" * 100),
        link("of_hidden.jpg", ".h.jpg"),
        ("b.json", {"gsd": 1}),
    ],
    tarfile.GNU_FORMAT,
)
GNU = make_tar([("n" * 150 + ".jpg", b"a" * 600), ("b.jpg", b"b" * 513)], tarfile.GNU_FORMAT)

damage = st.one_of(
    st.tuples(st.just("cut"), st.integers(0, 1 << 16), st.just(b"")),
    st.tuples(st.just("write"), st.integers(0, 1 << 16), st.binary(min_size=1, max_size=24)),
    st.tuples(st.just("insert"), st.integers(0, 1 << 16), st.binary(min_size=1, max_size=700)),
    st.tuples(st.just("drop"), st.integers(0, 1 << 16), st.binary(min_size=1, max_size=700)),
    # Write the size or the type of a header. `hurt` then corrects the checksum of the header.
    st.tuples(
        st.just("field"),
        st.integers(0, 40),
        st.sampled_from(
            [
                b"\x80" + b"\xff" * 11,
                b"00000000144\0",
                b"77777777777\0",
                b"S",
                b"1",
                b"2",
                b"x",
                b"g",
                b"L",
                b"5",
            ]
        ),
    ),
    st.tuples(st.just("zeros"), st.integers(0, 3 << 19), st.just(b"")),
    st.tuples(st.just("append"), st.just(0), st.binary(min_size=1, max_size=600)),
)


def fix_checksum(data: bytearray, start: int) -> None:
    block = bytes(data[start : start + 148]) + b" " * 8 + bytes(data[start + 156 : start + 512])
    data[start + 148 : start + 156] = b"%06o\0 " % sum(block)


def hurt(data: bytes, kind: str, place: int, what: bytes) -> bytes:
    broken = bytearray(data)
    place_in = place % (len(broken) + 1)
    if kind == "cut":
        del broken[place_in:]
    elif kind == "write":
        broken[place_in : place_in + len(what)] = what
    elif kind == "insert":
        broken[place_in:place_in] = what
    elif kind == "drop":
        del broken[place_in : place_in + len(what)]
    elif kind == "zeros":
        broken += bytes(place)
    elif kind == "append":
        broken += what
    elif kind == "field":
        start = place * 512
        if start + 512 <= len(broken):
            offset = 124 if len(what) == 12 else 156
            broken[start + offset : start + offset + len(what)] = what
            fix_checksum(broken, start)
    return bytes(broken)


@settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    base=st.sampled_from([BASE, GNU, LINKS]),
    damages=st.lists(damage, min_size=1, max_size=3),
    limit=st.sampled_from([600, 4000, 1 << 28]),
)
def test_header_walk_and_reader_agree_on_damaged_tars(
    tmp_path: Path, base: bytes, damages: list[tuple[str, int, bytes]], limit: int
) -> None:
    data = base
    for kind, place, what in damages:
        data = hurt(data, kind, place, what)
    assert_same(loose(tmp_path / "s.tar", data), ReadLimits(max_member_bytes=limit))


def test_cut_at_every_block_they_agree(tmp_path: Path) -> None:
    for data in (BASE, LINKS):
        for length in [*range(0, len(data), 512), *range(1, len(data), 977)]:
            assert_same(loose(tmp_path / "s.tar", data[:length]))


def test_links_are_listed_as_they_are_read(tmp_path: Path) -> None:
    walked = assert_same(loose(tmp_path / "s.tar", LINKS))
    places = {member.member: (member.byte_offset, member.byte_length) for member in walked}
    assert places["before.jpg"] == places["hard.jpg"] == places["steps.png"] == places["x/a.jpg"]
    assert places["of_hidden.jpg"][1] == 100
    assert [member.member for member in walked if member.failure] == ["x/lost.jpg"]
    # With this limit, the index holds four links. The other links are not found.
    walked = assert_same(loose(tmp_path / "s.tar", LINKS), ReadLimits(max_group_bytes=4 * 512))
    assert sum(member.failure is not None for member in walked) == 3


def test_the_walk_counts_what_is_ignored_as_the_reader_does(tmp_path: Path) -> None:
    entries = [("a.jpg", b"a"), ("b.md", b""), (".c.jpg", b""), ("d/e.csv", b""), ("f.md", b"")]
    shard = write_shard(tmp_path / "s.tar", make_tar([*entries, link("latest", "a.jpg")]))
    read, walked = ShardCounts(), ShardCounts()
    list(read_shard(shard, counts=read))
    list(list_members(shard, counts=walked))
    assert read.ignored == walked.ignored == {".md": 2, "hidden": 1, ".csv": 1, "link": 1}


def test_a_sparse_member_is_listed_as_it_is_read(tmp_path: Path) -> None:
    for size in ("1005", "99999", "-4"):
        header = tarfile.TarInfo("GNUSparseFile.0/a.jpg")
        stored = b"1\n1000\n5\n".ljust(512, b"\0") + b"hello".ljust(512, b"\0")
        header.size = len(stored) - 507
        header.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
        header.pax_headers |= {"GNU.sparse.name": "a.jpg", "GNU.sparse.realsize": size}
        data = header.tobuf(tarfile.PAX_FORMAT) + stored + make_tar([("b.jpg", b"b")])
        assert_same(loose(tmp_path / "s.tar", data))


def test_global_headers_with_wrong_sizes(tmp_path: Path) -> None:
    for size in ("3", "900", "5000", "99999999", "-1", "x"):
        for key in ("size", "GNU.sparse.size", "GNU.sparse.realsize", "path"):
            head = tarfile.TarInfo.create_pax_global_header({key: size})
            assert_same(loose(tmp_path / "s.tar", head + BASE))


def test_a_shard_that_vanished_or_changed_is_unread(tmp_path: Path) -> None:
    shard = loose(tmp_path / "s.tar", BASE)
    (tmp_path / "s.tar").write_bytes(BASE + bytes(512))
    for words in ("changed after it was listed", "was deleted after it was listed"):
        for read in (read_shard, list_members):
            with pytest.raises(StoreFaultError, match=words):
                list(read(shard))
        (tmp_path / "s.tar").unlink(missing_ok=True)


def test_a_broken_link_is_one_failure(tmp_path: Path) -> None:
    (tmp_path / "s.tar").symlink_to(tmp_path / "missing.tar")
    (shard,) = discover([str(tmp_path)])
    (member,) = assert_same(shard)
    assert member.failure is not None
    assert "broken link" in member.failure.detail
