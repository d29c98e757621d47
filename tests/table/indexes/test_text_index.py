"""The evaluation's full-text ranking is the table's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from lance.query import MatchQuery

from skytext.config.index import IndexConfig
from skytext.table.images_dataset import ImagesTable
from skytext.table.indexes.build_indexes import build_indexes
from skytext.table.indexes.text_index import TextIndex
from tests.table.rows import failed_row, good_row, location, make_table

TEXTS = [
    "A river and a bridge. The river bends.",
    "Two planes stand on a runway beside terminals.",
    "Rivers, rivers, rivers",
    "An empty field",
    "Ships in a harbour; a crane, and ships",
]
QUERIES = [
    "a bridge over the river",
    "ships",
    "the of a",
    "planes, ships and rivers",
    "zebra",
    '"a:(',
]


@pytest.mark.parametrize("num_commits", [1, 5])
def test_it_scores_as_the_index_of_a_table(tmp_path: Path, num_commits: int) -> None:
    rows = [good_row(f"{i}.jpg", text=text) for i, text in enumerate(TEXTS)]
    where = location(tmp_path / "t")
    groups = [rows] if num_commits == 1 else [[row] for row in rows]
    make_table(where, [failed_row("x.jpg")], *groups)
    build_indexes(ImagesTable.open(where), IndexConfig())
    dataset = ImagesTable.open(where).dataset
    ours = TextIndex(TEXTS)
    for query in QUERIES:
        found = dataset.to_table(
            columns=["member", "_score"], full_text_query=MatchQuery(query, "text"), limit=100
        ).to_pylist()
        theirs = {row["member"]: row["_score"] for row in found}
        scores = ours.scores(query)
        assert [theirs.get(f"{i}.jpg", 0) for i in range(len(TEXTS))] == pytest.approx(
            scores.tolist(), rel=1e-5
        )


def test_what_has_no_word_scores_nothing() -> None:
    index = TextIndex(["", "a river"])
    assert index.scores("river").tolist()[0] == 0
    assert index.scores("river").tolist()[1] > 0
    assert index.scores("").tolist() == [0, 0]
    assert index.scores("🛰 " * 5000).tolist() == [0, 0]
    assert TextIndex([]).scores("river").shape == (0,)
