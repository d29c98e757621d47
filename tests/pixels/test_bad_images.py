"""Every kind of bad image or bad shard gives the result in its table and has no other effect."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from skytext.archive import ReadLimits, Shard
from skytext.pixels.decode import ImageLimits
from skytext.run.caption_run import run_caption
from skytext.run.plans.caption_plan import plan_caption
from skytext.run.stages.decode_images import ImageDecoder
from skytext.run.stages.read_shards import ShardReader
from skytext.run.units import unpack
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.schema import STATUS_FAILED, STATUS_OK
from tests.archive.formats.tars import make_tar, write_shard
from tests.pixels.bad_images import (
    IMAGES,
    MAX_MEMBER_BYTES,
    SHARDS,
    Failed,
    Kind,
    Ok,
    ShardKind,
    good,
)
from tests.pixels.bad_images import members as tar_members
from tests.run.jobs import config

Told = tuple[str, Ok | Failed]


def outcome_of(row: dict[str, Any]) -> Told:
    """Return the result of a row in the form of the tables of kinds."""
    failure = row["failure"]
    if failure is not None:
        assert failure["detail"]
        assert "\n" not in failure["detail"]
        return row["member"], Failed(failure["stage"], failure["reason"])
    metadata = json.loads(row["metadata"] or "{}")
    invalid, error = tuple(metadata.get("_invalid", ())), bool(metadata.get("_sidecar_error"))
    place = row["width_px"], row["height_px"], row["format"]
    return row["member"], Ok(*place, invalid=invalid, sidecar_error=error)


def read_and_decode(shard: Shard, scratch: Path) -> list[Told]:
    """Run the first two stages of the job on a shard, without Ray."""
    location = TableLocation.parse(str(scratch / "table"))
    limits = ReadLimits(max_member_bytes=MAX_MEMBER_BYTES)
    reader = ShardReader(8, 64 << 20, limits, location, None)
    decoder = ImageDecoder(ImageLimits())
    rows: list[dict[str, Any]] = []
    for unit in reader.units(shard):
        head, samples = unpack(decoder(unit))
        assert head.num_listed == samples.num_rows
        rows += samples.to_pylist()
    assert all((row["data"] is None) == (row["failure"] is not None) for row in rows)
    ids = [row["image_id"] for row in rows]
    assert len(ids) == len(set(ids))
    return [outcome_of(row) for row in rows]


def test_the_tables_are_as_large_as_they_claim() -> None:
    assert len(IMAGES) + len(SHARDS) >= 60
    assert len({kind.member for kind in IMAGES}) == len(IMAGES)
    assert len({kind.name for kind in SHARDS}) == len(SHARDS)


@pytest.mark.parametrize("kind", IMAGES, ids=lambda kind: kind.name)
def test_a_bad_image_fails_alone(kind: Kind, tmp_path: Path) -> None:
    data = kind.build()
    assert len(data) < 4 << 20, "what is large must be so only once it is unpacked"
    entries = [("a.jpg", good(1)), (kind.member, data), ("c.jpg", good(3))]
    shard = write_shard(tmp_path / "s" / "s.tar", entries)
    expected = [("a.jpg", Ok()), (kind.member, kind.expected), ("c.jpg", Ok())]
    assert read_and_decode(shard, tmp_path) == expected


@pytest.mark.parametrize("kind", SHARDS, ids=lambda kind: kind.name)
def test_the_readable_images_of_a_bad_shard_are_read(kind: ShardKind, tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "s" / "s.tar", kind.build())
    assert read_and_decode(shard, tmp_path) == list(kind.expected)


def snapshot(root: Path) -> dict[str, str]:
    """Return every path below a folder, with the hash of its content."""
    found = {}
    for path in sorted(root.rglob("*")):
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        found[str(path.relative_to(root))] = content
    return found


def without_end(tar: bytes) -> bytes:
    """Return a tar without its end-of-archive marker, so that more members can be appended."""
    end = len(tar.rstrip(b"\0"))
    return tar[: end + -end % 512]


def is_there(folder: Path, name: str) -> bool:
    # A file whose name is very long or contains a zero byte cannot exist.
    with contextlib.suppress(ValueError, OSError):
        return os.path.lexists(folder / name)
    return False


@pytest.mark.proof
@pytest.mark.ray
def test_all_of_them_in_one_archive(
    tmp_path: Path, local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected: Counter[tuple[str, Told]] = Counter()
    root, canary, folder = tmp_path / "aerial", tmp_path / "canary", tmp_path / "cwd" / "inner"
    for path in (canary, folder):
        path.mkdir(parents=True)
    (canary / "alive.txt").write_text("tweet")
    was_in = Path.cwd()
    monkeypatch.chdir(folder)

    entries = []
    for index, kind in enumerate(IMAGES):
        entries += [(f"good/{index}.jpg", good(index)), (kind.member, kind.build())]
        expected["images.tar", (f"good/{index}.jpg", Ok())] += 1
        expected["images.tar", (kind.member, kind.expected)] += 1
    write_shard(root / "images.tar", entries)
    # These names point to the canary from every folder into which they may be unpacked.
    ways = [f"{canary}/absolute.jpg", *("../" * depth + "canary/up.jpg" for depth in range(1, 6))]
    write_shard(root / "escapes.tar", tar_members(*((name, good()) for name in ways)) + bytes(1024))
    expected.update(("escapes.tar", (name, Ok())) for name in ways)
    whole = b""
    for index, shard in enumerate(SHARDS):
        if shard.expected and all(member for member, _ in shard.expected):
            # The shard is readable to its end. Such shards are joined into one shard, because Ray
            # needs time for each shard.
            path = "shards/whole.tar"
            whole += without_end(shard.build())
        else:
            path = f"shards/{index:03d}.tar"
            write_shard(root / path, shard.build())
        expected.update((path, row) for row in shard.expected)
    write_shard(root / "shards/whole.tar", whole + bytes(1024))
    write_shard(root / "plain.tar", make_tar([(f"{i}.jpg", good(i)) for i in range(9)]))
    expected.update(("plain.tar", (f"{i}.jpg", Ok())) for i in range(9))

    before = snapshot(tmp_path)
    table = tmp_path / "table"
    settings = config(images__max_member_bytes=MAX_MEMBER_BYTES, job__unit_images=64,
                      job__commit_images=512)  # fmt: skip
    summary = run_caption(plan_caption([str(root)], str(table), settings))
    after = {path: content for path, content in snapshot(tmp_path).items()
             if not path.startswith("table")}  # fmt: skip
    assert after == before, "something was written outside the table"
    names = {row[1][0] for row in expected if row[1][0].endswith(".jpg")} - {"a.jpg"}
    outside = [was_in, was_in.parent, tmp_path, folder, folder.parent, root.parent]
    assert [(place, name) for place in outside for name in names if is_there(place, name)] == []

    opened = ImagesTable.open(TableLocation.parse(str(table)))
    columns = ["image_id", "shard", "member", "status", "failure", "metadata", "format"]
    rows = opened.dataset.to_table(columns=[*columns, "width_px", "height_px", "text"]).to_pylist()
    assert Counter((row["shard"], outcome_of(row)) for row in rows) == expected
    assert len({row["image_id"] for row in rows}) == len(rows)
    for row in rows:
        assert row["status"] == (STATUS_OK if row["failure"] is None else STATUS_FAILED)
        assert bool(row["text"]) == (row["failure"] is None)
    num_failed = sum(isinstance(row[1][1], Failed) for row in expected.elements())
    assert summary.num_listed == len(rows) == expected.total()
    assert (summary.num_ok, summary.num_failed) == (len(rows) - num_failed, num_failed)
