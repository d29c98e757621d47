"""Test links, and sidecars that are not beside their images."""

from __future__ import annotations

import tarfile
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from skytext.archive import ReadLimits, ShardCounts, image_id, read_range, read_shard
from skytext.archive.formats.tar_index import TarIndex
from skytext.archive.storage.files import open_ranged
from skytext.archive.storage.ranged_file import Window
from skytext.errors import Reason
from tests.archive.formats.tars import Entry, link, make_tar, write_shard
from tests.archive.formats.test_tar import A, B, C, garble, kept, members, reasons


def ship(number: int) -> str:
    return f"ship {number}".ljust(900)


def triples(num: int) -> list[Entry]:
    """Return images. Each image has one JSON sidecar and one text sidecar."""
    return [
        (f"x/{i:03}{suffix}", content)
        for i in range(num)
        for suffix, content in ((".jpg", b"%d" % i), (".json", {"v": i}), (".txt", ship(i)))
    ]


def suffix_order(*suffixes: str) -> Callable[[Entry], int]:
    return lambda entry: suffixes.index(entry[0].rpartition(".")[2])


def in_any_order(entries: list[Entry], seed: int) -> list[Entry]:
    order = np.random.default_rng(seed).permutation(len(entries))
    return [entries[i] for i in order]


ORDERS = {
    "images first": sorted(triples(60), key=suffix_order("jpg", "json", "txt")),
    "images last": sorted(triples(60), key=suffix_order("txt", "json", "jpg")),
    "images between": sorted(triples(60), key=suffix_order("txt", "jpg", "json")),
    **{f"any order {seed}": in_any_order(triples(60), seed) for seed in range(4)},
}


@pytest.mark.parametrize("small", [False, True], ids=["roomy", "small"])
@pytest.mark.parametrize("order", ORDERS)
def test_sidecars_are_found_anywhere_in_the_tar(tmp_path: Path, order: str, small: bool) -> None:
    shard = write_shard(tmp_path / "s.tar", ORDERS[order])
    # With the small limit, memory holds the positions of all sidecars, and the contents of some
    # sidecars.
    limits = ReadLimits(max_group_bytes=150 * 512) if small else ReadLimits()
    counts = ShardCounts()
    samples = list(read_shard(shard, limits=limits, counts=counts))
    assert len(samples) == 60
    for sample in samples:
        number = int(sample.member[2:5])
        assert sample.data == b"%d" % number
        assert kept(sample) == {"v": number, "txt": ship(number)}, sample.member
    assert counts == ShardCounts(num_ok=60, num_sidecars=120)
    assert samples == list(read_shard(shard, limits=limits))


def test_a_sidecar_belongs_to_its_own_folder(tmp_path: Path) -> None:
    entries = [("a.jpg", A), ("b.jpg", B), ("a.json", {"v": 1}), ("d/b.json", {"v": 2})]
    counts = ShardCounts()
    one, two = read_shard(write_shard(tmp_path / "s.tar", entries), counts=counts)
    assert (kept(one), two.metadata) == ({"v": 1}, None)
    assert counts == ShardCounts(num_ok=2, num_sidecars=1, ignored=Counter(sidecar=1))


def test_the_sidecar_next_to_the_image_wins_else_the_last(
    tmp_path: Path,
) -> None:
    entries = [("a.jpg", A), ("b.jpg", B), ("b.json", {"v": 1}), ("a.json", {"v": 2})]
    entries += [("c.jpg", C), ("a.json", {"v": 3}), ("b.json", {"v": 4})]
    counts = ShardCounts()
    samples = list(read_shard(write_shard(tmp_path / "s.tar", entries), counts=counts))
    assert [kept(s) for s in samples] == [{"v": 3}, {"v": 1}, {}]
    assert counts == ShardCounts(num_ok=3, num_sidecars=2, ignored=Counter(sidecar=2))


def test_one_sidecar_may_belong_to_images_that_are_not_adjacent(tmp_path: Path) -> None:
    entries = [("a.nir.png", A), ("a.json", {"v": 1}), ("b.jpg", B), ("a.rgb.png", C)]
    entries += [("c.json", {"v": 2}), ("b.jpg", B)]  # c.json has no image beside it
    counts = ShardCounts()
    samples = list(read_shard(write_shard(tmp_path / "s.tar", entries), counts=counts))
    assert [kept(s) for s in samples] == [{"v": 1}, {}, {"v": 1}, {}]
    assert counts == ShardCounts(num_ok=4, num_sidecars=1, ignored=Counter(sidecar=1))


@pytest.mark.parametrize("size", [1000, 200_000])
def test_a_tar_without_strays_is_not_walked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """A walk needs one request for each member of more than 64 KiB."""
    entries = [(f"{i:02}.jpg", bytes([i]) * size) for i in range(30)]
    entries[10:10] = [("with.jpg", A), ("with.json", {"v": 1})]
    monkeypatch.setattr(TarIndex, "_walk", lambda *_: pytest.fail("it was walked"))
    samples = list(read_shard(write_shard(tmp_path / "s.tar", entries)))
    assert [kept(s) for s in samples if kept(s)] == [{"v": 1}]
    assert len(samples) == 31


def test_sidecars_after_damage_are_not_found(tmp_path: Path) -> None:
    data = make_tar([("a.jpg", A), ("b.jpg", B), ("a.json", {"v": 1}), ("b.json", {"v": 2})])
    start = data.index(b"b.json")
    samples = list(read_shard(write_shard(tmp_path / "s.tar", garble(data, start, 512))))
    assert [(s.member, s.metadata) for s in samples] == [
        ("a.jpg", '{"v": 1}'),
        ("b.jpg", None),
        ("", None),
    ]


def test_an_ordinary_tar_is_opened_once(tmp_path: Path) -> None:
    with patch("skytext.archive.formats.tar.open_ranged", wraps=open_ranged) as opened:
        assert len(list(read_shard(write_shard(tmp_path / "s.tar", triples(9))))) == 9
        assert opened.call_count == 1
        list(read_shard(write_shard(tmp_path / "t.tar", ORDERS["images first"])))
        assert opened.call_count == 3


@pytest.mark.parametrize(
    ("name", "target", "kind"),
    [
        ("north/l.jpg", "north/a.jpg", tarfile.LNKTYPE),
        ("l.jpg", "./north/a.jpg", tarfile.LNKTYPE),
        ("north/l.jpg", "a.jpg", tarfile.SYMTYPE),
        ("./south/l.jpg", "../north/./a.jpg", tarfile.SYMTYPE),
        ("l.jpg", "north/step", tarfile.SYMTYPE),  # a link to a link
        ("l.JPG", "blobs/0", tarfile.SYMTYPE),
    ],
)
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_a_link_to_a_member_is_an_image_with_its_bytes(
    tmp_path: Path, name: str, target: str, kind: bytes, first: bool
) -> None:
    files: list[Any] = [("north/a.jpg", A), ("blobs/0", A), link("north/step", "a.jpg")]
    one = [link(name, target, kind)]
    shard = write_shard(tmp_path / "s.tar", make_tar(one + files if first else files + one))
    counts = ShardCounts()
    samples = {s.member: s for s in read_shard(shard, counts=counts)}
    assert samples.keys() == {name, "north/a.jpg"}
    found = samples[name]
    assert (found.data, found.failure) == (A, None)
    assert found.image_id == image_id(tmp_path.name, "s.tar", name, 0)
    assert found.uri == f"{shard.uri}#{name}"
    assert found.byte_offset is not None
    assert found.byte_length is not None
    assert read_range(shard.uri, found.byte_offset, found.byte_length, etag=shard.etag) == A
    assert counts == ShardCounts(num_ok=2, ignored=Counter({"other": 1, "link": 1}))


def test_hard_links_resolve_to_earlier_members_and_symbolic_links_to_the_last(
    tmp_path: Path,
) -> None:
    hard, soft = link("h.jpg", "a.jpg", tarfile.LNKTYPE), link("s.jpg", "a.jpg")
    shard = write_shard(tmp_path / "s.tar", make_tar([("a.jpg", A), hard, soft, ("a.jpg", B)]))
    assert [(s.member, s.data) for s in read_shard(shard)] == [
        ("a.jpg", A),
        ("h.jpg", A),
        ("s.jpg", B),
        ("a.jpg", B),
    ]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("target", ["/etc/passwd", "../a.jpg", "l.jpg", "b.jpg", "folder", ""])
def test_a_link_to_no_member_is_a_failure(tmp_path: Path, kind: bytes, target: str) -> None:
    folder = tarfile.TarInfo("folder")
    folder.type = tarfile.DIRTYPE
    data = make_tar([folder, ("a.jpg", A), link("l.jpg", target, kind), ("c.jpg", C)])
    counts = ShardCounts()
    samples = list(read_shard(write_shard(tmp_path / "s.tar", data), counts=counts))
    assert members(samples) == ["a.jpg", "l.jpg", "c.jpg"]
    failed = samples[1]
    assert failed.failure is not None
    assert failed.failure.reason is Reason.LINK_WITHOUT_TARGET
    assert f"l.jpg is a link to {target}" in failed.failure.detail
    assert "--dereference" in failed.failure.detail
    assert (failed.data, failed.byte_offset, failed.byte_length) == (None, None, None)
    assert counts == ShardCounts(num_ok=2, num_failed=1)


def test_a_link_to_a_member_above_the_limit_fails_as_that_one_does(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "s.tar", make_tar([("a.jpg", A), link("l.jpg", "a.jpg")]))
    samples = list(read_shard(shard, limits=ReadLimits(max_member_bytes=100)))
    assert reasons(samples) == [Reason.MEMBER_TOO_LARGE] * 2


def test_a_sidecar_may_be_a_link(tmp_path: Path) -> None:
    files: list[Any] = [
        ("a.jpg", A),
        ("a.json", {"v": 1}),
        ("b.jpg", B),
        link("b.json", "a.json", tarfile.LNKTYPE),
        ("c.jpg", C),
        ("d.jpg", C),
        link("d.txt", "missing"),
        link("c.json", "b.json"),
    ]
    shard = write_shard(tmp_path / "s.tar", make_tar(files))
    counts = ShardCounts()
    samples = list(read_shard(shard, counts=counts))
    assert [kept(s) for s in samples[:3]] == [{"v": 1}] * 3
    assert kept(samples[3]) == {
        "_sidecar_error": "d.txt is a link, but the tar does not contain the target of the link"
    }
    assert counts == ShardCounts(num_ok=4, num_sidecars=4)


def test_sidecars_of_a_walk_do_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STREAMING", "JUMPING"):
        monkeypatch.setattr(f"skytext.archive.formats.tar.{name}", Window(64 << 10, 64 << 10))
    entries: list[Entry] = [("a.jpg", A), *((f"{i}.json", "x" * 9000) for i in range(4000))]
    shard = write_shard(tmp_path / "s.tar", [*entries, ("a.json", {"v": 1})])
    tracemalloc.start()
    (sample,) = read_shard(shard, limits=ReadLimits(max_group_bytes=512 * 5000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert kept(sample) == {"v": 1}
    assert peak < 6_000_000  # the sidecars have 36 MB
