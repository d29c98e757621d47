"""Make tables with the fake embedder, for tests of searches and of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from skytext.config.embedding import EmbedConfig
from skytext.models.checkpoints import embed_model
from skytext.models.fakes.embedders import FakeEmbedder
from skytext.models.fingerprints import embedding_fingerprint
from skytext.table.images_dataset import ImagesTable
from skytext.table.vector_columns import VectorColumn
from tests.table.rows import (
    committer,
    failed_row,
    good_row,
    location,
    stage,
    text_column,
)

DESCRIBED = {
    "river.jpg": ["a brown river", "water in fields"],
    "airport.jpg": ["planes on a runway", "an airport", "runway beside terminals"],
    "forest.jpg": ["dense forest"],
    "harbour.jpg": ["ships in a harbour", "a harbour with cranes"],
}
FAILED = {"empty.jpg": "empty", "cut.jpg": "truncated_image", "cut2.jpg": "truncated_image"}


def described_row(member: str, texts: list[str], **more: Any) -> dict[str, Any]:
    """Return a row with descriptions. The fake embedder embedded its variants."""
    row = good_row(member, vectors=FakeEmbedder().embed_documents(texts).vectors, **more)
    for caption, text in zip(row["captions"], texts, strict=True):
        caption |= {"one_sentence": text, "feature": f"F {text}", "caption": f"C {text}"}
    return row


def fake_column() -> VectorColumn:
    """Return the column for the vectors of the fake embedder."""
    return text_column("fake", embedding_fingerprint(embed_model(EmbedConfig(model="fake"))))


def make_described_table(folder: Path, **more: Any) -> ImagesTable:
    """Make a table of four described images and three failed images, in two commits.

    Args:
        folder: folder of the table.
        more: values of columns of the described images.
    """
    where = location(folder)
    writer = committer(where, fake_column())
    good = [
        described_row(member, texts, text="\n\n".join(texts), **more)
        for member, texts in DESCRIBED.items()
    ]
    failed = [failed_row(member, reason=reason) for member, reason in FAILED.items()]
    writer.commit([stage(where, [*good[:2], *failed])])
    writer.commit([stage(where, good[2:])])
    return ImagesTable.open(where)
