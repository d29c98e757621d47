"""Make served tables with the fake models, and the archive of their images."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

from PIL import Image

from skytext.archive import discover, read_shard
from skytext.config.embedding import EmbedConfig
from skytext.config.settings import Config
from skytext.models.checkpoints import embed_model
from skytext.models.factory import make_embedder
from skytext.models.fingerprints import embedding_fingerprint
from skytext.run.plans.vector_plan import text_column as make_column
from skytext.run.stages.embed_text import vectors_of
from skytext.table.commits.change_columns import activate_column
from skytext.table.commits.commit_rows import Committer
from skytext.table.commits.stage_vectors import stage_vectors
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.schema import DONE
from tests.cli.tables import DESCRIBED, described_row
from tests.table.rows import (
    committer,
    failed_row,
    location,
    stage,
    text_column,
)

BOXES = {
    "river.jpg": (4.0, 51.0, 4.5, 51.5),
    "airport.jpg": (170.0, -20.0, -170.0, -10.0),
}


def encoded(colour: str, size: tuple[int, int] = (96, 64)) -> bytes:
    """Return a JPEG of one colour."""
    data = io.BytesIO()
    Image.new("RGB", size, colour).save(data, "JPEG")
    return data.getvalue()


def make_archive(folder: Path) -> Path:
    """Write a tar of the images that the table describes. Return the path of the tar."""
    folder.mkdir()
    path = folder / "a.tar"
    with tarfile.open(path, "w") as tar:
        colours = ("brown", "grey", "green", "blue")
        for member, colour in zip(DESCRIBED, colours, strict=True):
            data = encoded(colour)
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def make_rows(archive: Path | str) -> dict[str, dict[str, Any]]:
    """Return the rows of an archive by member. The rows have the same content as the rows of a
    run."""
    (shard,) = discover([str(archive)], archive="aerial")
    rows = {}
    for sample in read_shard(shard):
        assert sample.data is not None
        box = BOXES.get(sample.member)
        sides = ("west", "south", "east", "north")
        rows[sample.member] = described_row(
            sample.member,
            DESCRIBED[sample.member],
            uri=sample.uri,
            byte_offset=sample.byte_offset,
            byte_length=sample.byte_length,
            shard_etag=sample.shard_etag,
            content_sha256=hashlib.sha256(sample.data).hexdigest(),
            width_px=96,
            height_px=64,
            format="jpeg",
            bbox=None if box is None else dict(zip(sides, box, strict=True)),
            gsd=0.5 if box else None,
            datetime=dt.datetime(2024, 5, 31, tzinfo=dt.UTC) if box else None,
            metadata=json.dumps({"cloud": 10}),
            caption_model="fake",
        )
    return rows


def make_served_table(folder: Path, *, num_chars: int = 0) -> ImagesTable:
    """Make a table of four described images and one failed image, in two commits.

    Args:
        folder: folder for the table and its archive.
        num_chars: number of characters that are added to every description.
    """
    rows = list(make_rows(make_archive(folder / "archive")).values())
    for caption in (caption for row in rows for caption in row["captions"]):
        caption["caption"] += " " + "x" * num_chars if num_chars else ""
    return write_table(location(folder / "table"), rows)


def embed_again(where: TableLocation, model: str) -> ImagesTable:
    """Embed the descriptions of a table with another fake model. Return the new version of the
    table."""
    settings = Config(embed=EmbedConfig(model=model))
    identity = embed_model(settings.embed)
    embedder = make_embedder(settings.embed, identity)
    column = dataclasses.replace(make_column(identity, settings), dim=embedder.dim)
    table = ImagesTable.open(where)
    rows = table.dataset.to_table(["image_id", "unit_id", "captions"], filter=DONE)
    entries = vectors_of(embedder, rows.column("captions").to_pylist())
    ids, units = (rows.column(name).to_pylist() for name in ("image_id", "unit_id"))
    unit = stage_vectors(where, f"again/{table.version}", column, ids, units, entries)
    Committer(where, table.text_column, table.version).commit([unit])
    return activate_column(ImagesTable.open(where), column)


def write_table(where: TableLocation, rows: list[dict[str, Any]]) -> ImagesTable:
    """Make a table of these rows and one failed row, in two commits."""
    fingerprint = embedding_fingerprint(embed_model(EmbedConfig(model="fake")))
    writer = committer(where, text_column("fake", fingerprint))
    writer.commit([stage(where, rows[:2])])
    writer.commit([stage(where, [*rows[2:], failed_row("cut.jpg", content_sha256="0" * 64)])])
    return ImagesTable.open(where)


def make_two_tables(folder: Path) -> list[Path]:
    """Make two tables next to one archive. Each table has two commits.

    ``north`` has three images of the archive, and ``south`` has two images. Both tables have the
    image of a river.
    """
    rows = make_rows(make_archive(folder / "archive"))
    members = {
        "north": ("river.jpg", "airport.jpg", "forest.jpg"),
        "south": ("harbour.jpg", "river.jpg"),
    }
    for name, own in members.items():
        write_table(location(folder / name), [rows[member] for member in own])
    return [folder / name for name in members]
