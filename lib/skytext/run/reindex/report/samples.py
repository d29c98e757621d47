"""Show a sample of the images that a run changed, with the old and the new descriptions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from skytext.run.reindex.report.facts import RunFacts
from skytext.run.reindex.report.page import Card, Grid, Section
from skytext.run.reindex.report.thumbnails import COLUMNS, thumbnail
from skytext.table.images_dataset import ImagesTable
from skytext.table.queries.caption_queries import RowIds, take
from skytext.table.queries.run_rows import RunRows, withdrawn_since
from skytext.table.standing.reported_matches import MatchReport

_SHOWN = 8
_COLUMNS = [*COLUMNS, "captions"]
_TITLES = {
    "new": "New images",
    "changed": "Changed images, before and after",
    "again": "Described again, before and after",
    "recovered": "Images that failed before and are described now",
}


def samples(
    facts: RunFacts, before: ImagesTable | None, after: ImagesTable, rows: RunRows
) -> Iterator[Section]:
    """Yield one section for each kind of change. A section shows up to eight images."""
    for kind, title in _TITLES.items():
        ids: RowIds = getattr(rows, kind)
        shown = list(_cards(_spread(ids), before, after, facts))
        texts = [f"{len(shown)} of {len(ids):,} images are shown."] if len(ids) > len(shown) else []
        yield Section(title, texts if shown else (), cards=shown)


def _spread(ids: RowIds) -> RowIds:
    """Return up to eight row ids at equal distances in ``ids``."""
    places = np.linspace(0, len(ids) - 1, min(len(ids), _SHOWN)).astype(int)
    some: RowIds = ids[places]
    return some


def _cards(
    ids: RowIds, before: ImagesTable | None, after: ImagesTable, facts: RunFacts
) -> Iterator[Card]:
    rows = take(after, ids, _COLUMNS).to_pylist()
    images = [row["image_id"] for row in rows]
    then = [] if before is None else before.rows(images, ["image_id", "captions"])
    earlier = {row["image_id"]: _sentence(row) for row in then if row["captions"]}
    for row in rows:
        said = earlier.get(row["image_id"])
        now = _sentence(row)
        lines = [("", now)] if said is None else [("before", said), ("now", now)]
        yield _card(row, lines, facts)


def _card(row: Mapping[str, Any], lines: list[tuple[str, str]], facts: RunFacts) -> Card:
    picture, note = thumbnail(row, facts.location, facts.config)
    return Card(row["member"], lines, picture, note)


def _sentence(row: Mapping[str, Any]) -> str:
    return str(row["captions"][0]["one_sentence"])


def withdrawn(facts: RunFacts, after: ImagesTable) -> Section:
    """Return a section that lists up to eight of the images that this run withdrew."""
    number = facts.summary.get("num_withdrawn", 0)
    if not number:
        return Section("Withdrawn images")
    columns = ["uri", "captions"]
    rows = withdrawn_since(after, facts.started_at, columns, _SHOWN)
    lines = [[row["uri"], _sentence(row) if row["captions"] else ""] for row in rows]
    texts = [f"{len(lines)} of {number:,} images are shown."] if number > len(lines) else []
    return Section("Withdrawn images", texts, Grid(["image", "last description"], lines, 2))


def match_sections(facts: RunFacts, after: ImagesTable) -> Iterator[Section]:
    """Yield one section for each match report.

    A match report lists new images that match standing queries.
    """
    for report, geojson in facts.matches:
        features = json.loads(geojson)["features"]
        lines = [[one["query_id"], one["text"], f"{one['num_matches']:,}"] for one in report.counts]
        yield Section(
            f"New images for standing queries (report {report.number})",
            grid=Grid(["query", "words", "images"], lines, 2),
            cards=list(_match_cards(report, features, after, facts)),
            link=report.address.rpartition("/")[2],
        )


def _match_cards(
    report: MatchReport, features: Sequence[Mapping[str, Any]], after: ImagesTable, facts: RunFacts
) -> Iterator[Card]:
    said = [feature["properties"] for feature in features]
    per_query = max(2, _SHOWN // len(report.counts))
    shown = [
        one
        for count in report.counts
        for one in [each for each in said if each["query_id"] == count["query_id"]][:per_query]
    ][: 2 * _SHOWN]
    rows = after.rows([one["image_id"] for one in shown], _COLUMNS)
    by_image = {row["image_id"]: row for row in rows}
    for one in shown:
        row = by_image.get(one["image_id"])
        lines = [(f"{one['query']} ({one['score']:.2f})", one["captions"][0]["one_sentence"])]
        if row is None:
            yield Card(one["member"], lines, note="the image is no longer in the table")
        else:
            yield _card(row, lines, facts)
