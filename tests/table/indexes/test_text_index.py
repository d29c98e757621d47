"""The full-text ranking in an evaluation equals the full-text ranking of the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lance.query import MatchQuery

from skytext.captions.parsing import Variant, search_text
from skytext.config.index import IndexConfig
from skytext.table.images_dataset import ImagesTable
from skytext.table.indexes.build_indexes import build_indexes
from skytext.table.indexes.text_index import TextIndex
from skytext.table.queries.caption_queries import take, word_scores
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
def test_scores_equal_those_of_a_table_index(tmp_path: Path, num_commits: int) -> None:
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


def test_texts_without_a_shared_word_score_zero() -> None:
    index = TextIndex(["", "a river"])
    assert index.scores("river").tolist()[0] == 0
    assert index.scores("river").tolist()[1] > 0
    assert index.scores("").tolist() == [0, 0]
    assert index.scores("🛰 " * 5000).tolist() == [0, 0]
    assert TextIndex([]).scores("river").shape == (0,)


def found(tmp_path: Path, texts: list[str], query: str, **config: Any) -> list[int]:
    """Build the index of a table, and return the numbers of the texts that the query finds."""
    rows = [
        good_row(f"{i}.jpg", text=search_text([Variant(text, "", "", "stop")]))
        for i, text in enumerate(texts)
    ]
    where = location(tmp_path / "t")
    make_table(where, rows)
    build_indexes(ImagesTable.open(where), IndexConfig(**config))
    table = ImagesTable.open(where)
    ids = word_scores(table, query, 9).ids
    names = take(table, ids, ["member"]).column("member").to_pylist()
    return sorted(int(name.removesuffix(".jpg")) for name in names)


CAFES = ["Un café au bord d'un étang", "UN CAFE", "Un cafe\u0301 isole\u0301", "Une rivière"]


@pytest.mark.parametrize("query", ["cafe", "café", "CAFÉ", "cafe\u0301"])
def test_case_and_accents_make_no_difference(tmp_path: Path, query: str) -> None:
    assert found(tmp_path, CAFES, query) == [0, 1, 2]
    scores = TextIndex(CAFES).scores(query)
    assert (scores > 0).tolist() == [True, True, True, False]


def test_words_are_found_by_the_stems_of_the_language(tmp_path: Path) -> None:
    texts = ["deux avions sur la piste", "un avion"]
    assert found(tmp_path, texts, "avions de ligne", language="French") == [0, 1]
    assert found(tmp_path / "german", ["drei Häuser"], "haus hauses", language="German") == [0]
