from __future__ import annotations

import datetime as dt
from pathlib import Path

import pyarrow as pa

from skytext.captions.parsing import FIELDS
from skytext.table.queries.hit_column import HitRow, hit_texts, read_hits
from skytext.table.schema import HIT
from tests.table.rows import (
    failed_row,
    good_row,
    location,
    make_table,
    to_table,
)

TAKEN = dt.datetime(2021, 5, 6, 7, 8, 9, 123456, tzinfo=dt.UTC)


def test_the_hit_column_equals_the_other_columns(tmp_path: Path) -> None:
    rows = [
        good_row("plain.jpg"),
        good_row(
            'é "quoted"\n.jpg',
            datetime=TAKEN,
            bbox={"west": 179.5, "south": -1.0, "east": -179.5, "north": 1 / 3},
            gsd=0.1,
            collection="naip",
        ),
        good_row("odd.jpg", gsd=float("inf"), datetime=TAKEN.replace(microsecond=0, year=1)),
    ]
    table = make_table(location(tmp_path / "table"), rows).dataset.to_table()
    hits = list(read_hits(table.column(HIT).to_pylist()))
    for row, hit in zip(table.to_pylist(), hits, strict=True):
        box = row["bbox"]
        assert hit == HitRow(
            image_id=row["image_id"],
            uri=row["uri"],
            captions=[[variant[name] for name in FIELDS] for variant in row["captions"]],
            datetime=row["datetime"],
            bbox=None if box is None else (box["west"], box["south"], box["east"], box["north"]),
            gsd=row["gsd"],
            collection=row["collection"],
        )


def test_images_without_description_have_no_hit() -> None:
    rows = to_table([failed_row("bad.jpg"), good_row("good.jpg")])
    assert rows.column(HIT).null_count == 1
    assert hit_texts(rows).is_null().to_pylist() == [True, False]
    assert hit_texts(rows).type == pa.string()
