"""Make a table for the tests of the page.

The table has enough images for two pages of hits, and places on both sides of 180°. Some
descriptions, names and metadata contain markup, which the page must show as text.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

from skytext.archive import discover, read_shard
from skytext.config.embedding import EmbedConfig
from skytext.config.index import IndexConfig
from skytext.models.checkpoints import embed_model
from skytext.models.fingerprints import embedding_fingerprint
from skytext.table.images_dataset import ImagesTable
from skytext.table.indexes.build_indexes import build_indexes
from tests.cli.tables import described_row
from tests.service.tables import encoded
from tests.table.rows import committer, location, stage, text_column

HOSTILE = (
    "<img src=x onerror=\"window.hacked='one'\">",
    "</span></button><script>window.hacked='two'</script>",
    "<svg onload=\"window.hacked='three'\"></svg> &lt;b&gt; &amp; {{7*7}} ${7*7}",
)
HOSTILE_MEMBER = "<img src=x onerror=hacked=1>.jpg"
FIJI = (178.0, -19.0, -179.0, -16.0)
BULK = [f"field{i:02d}.jpg" for i in range(26)]
DESCRIBED: dict[str, list[str]] = {
    "river.jpg": ["a brown river", "water in fields", "a stream with bends"],
    "fiji.jpg": ["an atoll in the sea", "a reef around a lagoon"],
    "nowhere.jpg": ["dense forest"],
    HOSTILE_MEMBER: list(HOSTILE),
    **{member: [f"a ploughed field number {i}"] for i, member in enumerate(BULK)},
}


def facts(member: str) -> dict[str, Any]:
    """Return the values that the source gives for an image."""
    if member == "nowhere.jpg":
        return {}
    number = BULK.index(member) if member in BULK else 30
    box = (4.0 + number, 40.0, 4.5 + number, 40.5)
    found: dict[str, Any] = {
        "bbox": box,
        "gsd": 0.5 if number % 2 else 10.0,
        "datetime": dt.datetime(2024, 1, 1, 10, 30, tzinfo=dt.UTC) + dt.timedelta(days=number),
        "collection": "naip" if number % 2 else "it's s2",
        "metadata": json.dumps({"cloud": number, "by": "<script>window.hacked='four'</script>"}),
    }
    if member == "fiji.jpg":
        found["bbox"] = FIJI
    if member == "river.jpg":
        found["bbox"] = (-60.0, -5.0, -59.0, -4.0)
    if member == HOSTILE_MEMBER:
        found["collection"] = HOSTILE[0]
    return found


def make_page_table(folder: Path) -> Path:
    """Make the table in two commits. The second commit adds the last image."""
    archive = folder / "archive"
    archive.mkdir(parents=True)
    with tarfile.open(archive / "a.tar", "w") as tar:
        for number, member in enumerate(DESCRIBED):
            colour = f"rgb({60 + 5 * number}, {120 + number}, {200 - 5 * number})"
            data = encoded(colour, (320, 240))
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    rows = [_row(sample) for sample in read_shard(discover([str(archive)], archive="aerial")[0])]
    where = location(folder / "table")
    fingerprint = embedding_fingerprint(embed_model(EmbedConfig(model="fake")))
    writer = committer(where, text_column("fake", fingerprint))
    writer.commit([stage(where, rows[:-1])])
    writer.commit([stage(where, rows[-1:])])
    build_indexes(ImagesTable.open(where), IndexConfig())
    return folder / "table"


def _row(sample: Any) -> dict[str, Any]:
    said = facts(sample.member)
    box = said.pop("bbox", None)
    return described_row(
        sample.member,
        DESCRIBED[sample.member],
        text=" ".join(DESCRIBED[sample.member]),
        uri=sample.uri,
        byte_offset=sample.byte_offset,
        byte_length=sample.byte_length,
        shard_etag=sample.shard_etag,
        content_sha256=hashlib.sha256(sample.data).hexdigest(),
        width_px=320,
        height_px=240,
        format="jpeg",
        bbox=None
        if box is None
        else dict(zip(("west", "south", "east", "north"), box, strict=True)),
        caption_model="fake-llava",
        caption_model_revision="r1",
        prompt_id="demo-1",
        engine_version="0.32.0",
        **said,
    )
