"""Standing queries score each image like an exact search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skytext.filters.cql2_text import parse_filter
from skytext.models.fakes.embedders import FakeEmbedder
from skytext.search import Searcher
from skytext.search.request import SearchRequest
from skytext.search.standing_queries import matching_pictures, unseen_pictures
from skytext.table.images_dataset import ImagesTable
from skytext.table.queries.caption_queries import pictures, take
from skytext.table.standing.reported_matches import Compared, files_by_fragment
from skytext.table.standing.standing_queries import StandingQueries
from tests.cli.tables import described_row, make_described_table
from tests.table.rows import committer, stage

NOTHING = np.empty(0, "S16")
WHERE = "s_intersects(geometry, POLYGON((0 0, 2 0, 2 2, 0 2, 0 0)))"


@pytest.mark.parametrize("where", [None, WHERE, "member <> 'river.jpg'", "gsd < 1"])
def test_scores_and_filters_are_those_of_an_exact_search(tmp_path: Path, where: str | None) -> None:
    box = {"west": 1.0, "south": 1.0, "east": 1.5, "north": 1.5}
    table = make_described_table(tmp_path / "table", bbox=box, gsd=0.5)
    condition = None if where is None else parse_filter(where)
    query = StandingQueries(table.location).add("planes in a harbour", 0.1, condition)
    fragments = list(files_by_fragment(table))
    candidates = unseen_pictures(table, query, fragments, NOTHING)
    vector = FakeEmbedder().embed_queries([query.text])[0]
    found = matching_pictures(table, candidates, vector, query.min_score)
    ids = take(table, found.pictures.ids, ["image_id"]).column("image_id").to_pylist()
    request = SearchRequest(
        text=query.text, min_score=0.1, where=condition, exact=True, mode="dense"
    )
    hits = Searcher(table, FakeEmbedder()).search(request).hits
    assert len(hits) > 0
    assert list(zip(ids, found.scores.tolist(), strict=True)) == [
        (hit.image_id, hit.score) for hit in hits
    ]


def test_only_images_of_new_files_that_were_not_seen_are_compared(tmp_path: Path) -> None:
    table = make_described_table(tmp_path / "table")
    query = StandingQueries(table.location).add("a river", -1.0)
    files = frozenset().union(*files_by_fragment(table).values())
    compared = Compared(column=table.text_column.name, files=files)
    assert compared.changed_fragments(table) == []
    writer = committer(table.location, table.text_column)
    writer.commit([stage(table.location, [described_row("new.jpg", ["a quarry"])])])
    later = ImagesTable.open(table.location)
    (changed,) = compared.changed_fragments(later)
    candidates = unseen_pictures(later, query, [changed], NOTHING)
    assert take(later, candidates.ids, ["member"]).column("member").to_pylist() == ["new.jpg"]
    seen = pictures(later).keys
    assert len(seen) == len(set(seen.tolist())) == 5
    assert len(unseen_pictures(later, query, [changed], seen).ids) == 0
    # The vectors of another model are in another column. Then all files count as changed.
    assert len(Compared(column="other", files=files).changed_fragments(later)) == 3


def test_the_same_image_with_other_bytes_is_another_picture(tmp_path: Path) -> None:
    first = make_described_table(tmp_path / "a", content_sha256="0" * 63 + "1")
    other = make_described_table(tmp_path / "b", content_sha256="1" * 64)
    same = make_described_table(tmp_path / "c", content_sha256="0" * 63 + "1")
    keys = [set(pictures(table).keys.tolist()) for table in (first, other, same)]
    assert keys[0] == keys[2]
    assert keys[0].isdisjoint(keys[1])
