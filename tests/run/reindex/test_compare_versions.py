"""Test the comparison of two versions of a table with golden queries and logged queries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skytext.config.reindex import ReindexConfig
from skytext.errors import TableError
from skytext.evaluation.golden import Golden, GoldenQuery
from skytext.run.reindex.compare_versions import Comparison, NotComparedError, _compare
from skytext.search.request import SearchRequest
from skytext.table.images_dataset import ImagesTable
from tests.cli.tables import DESCRIBED
from tests.run.jobs import config
from tests.service.tables import embed_again, make_archive, make_rows, make_served_table
from tests.table.rows import committer, location, rows_of, stage, text_column

QUERIES = {"a river": "river.jpg", "a dense forest": "forest.jpg", "ships in a harbour": "x.jpg"}


@pytest.fixture
def table(tmp_path: Path) -> ImagesTable:
    """Return a table with four images. The version before the last version has two images."""
    return make_served_table(tmp_path)


def compare(table: ImagesTable, live: int, new: int, **more: Any) -> Comparison:
    asked = [GoldenQuery(query=q, images=(name,), **more) for q, name in QUERIES.items()]
    return _compare(table.location, config(), live, new, Golden(queries=tuple(asked)))


def failed(found: Comparison, **limits: Any) -> list[str]:
    return [str(check) for check in found.checks(ReindexConfig(**limits)) if not check.passed]


def test_a_version_that_lost_an_image_fails_and_says_by_how_much(table: ImagesTable) -> None:
    last = table.version
    before = rows_of(ImagesTable.open(table.location, last - 1), "member")
    lost = {"river.jpg", "forest.jpg"} - {row["member"] for row in before}
    assert lost
    found = compare(table, last, last - 1)
    assert found.found_live == pytest.approx(2 / 3)
    assert found.found_new is not None
    assert found.found_live - found.found_new == pytest.approx(len(lost) / 3)
    (said,) = failed(found)
    assert "golden queries that find an expected image" in said
    assert "required: at most 0" in said
    assert failed(found, max_golden_drop=1.0) == []
    # The new version finds half of the images that the live version finds.
    assert found.overlap_at_10 == 0.5
    assert failed(found, max_golden_drop=1.0, min_overlap=0.5) == []
    assert "overlap@10" in failed(found, max_golden_drop=1.0, min_overlap=0.51)[0]
    assert {len(change.lost) for change in found.changes} == {2}
    assert found.to_json()["num_queries"] == 3
    # The new version may find more images than the live version.
    assert failed(compare(table, last - 1, last)) == []


def test_logged_queries_have_an_overlap_and_no_expected_images(table: ImagesTable) -> None:
    last = table.version
    ids = {row["member"]: row["image_id"] for row in table.dataset.to_table().to_pylist()}
    before = rows_of(ImagesTable.open(table.location, last - 1), "member")
    gone = next(ids[member] for member in DESCRIBED if {"member": member} not in before)
    asked = (
        SearchRequest(text="a\x1b[31m river"),
        SearchRequest.model_validate({"text": "a river", "where": "gsd < 1", "mode": "dense"}),
        SearchRequest(like=(gone,)),
        # Neither version has a full-text index or image vectors.
        SearchRequest(text="a river", mode="text"),
        SearchRequest(text="a river", mode="image"),
    )
    found = _compare(table.location, config(), last, last - 1, asked)
    assert (found.num_queries, found.num_refused) == (3, 2)
    assert (found.found_live, found.found_new) == (None, None)
    # The version without this image rejects the query, so this version has no hits.
    assert found.changes[0].query == f'{{"like": ["{gone}"]}}'
    assert (found.changes[0].overlap_at_10, len(found.changes[0].lost)) == (0.0, 3)
    assert [(one.query, one.overlap_at_10) for one in found.changes[1:]] == [("a [31m river", 0.5)]
    assert found.overlap_at_10 == 0.5
    assert failed(found) == []
    assert "overlap@10 of the logged queries" in failed(found, min_overlap=0.51)[0]
    long = (SearchRequest(text="a river " * 100),)
    (change,) = _compare(table.location, config(), last, last - 1, long).changes
    assert (len(change.query), change.query[-1]) == (200, "…")
    with pytest.raises(NotComparedError, match=r"versions \d+ and \d+ rejected all 2"):
        _compare(table.location, config(), last, last - 1, asked[3:])


def test_the_same_version_is_as_good_as_itself(table: ImagesTable) -> None:
    found = compare(table, table.version, table.version)
    assert (found.overlap_at_10, found.changes, failed(found, min_overlap=1.0)) == (1.0, (), [])


def test_each_version_is_searched_with_its_own_model(table: ImagesTable) -> None:
    other = embed_again(table.location, "fake:dim=24")
    found = compare(table, table.version, other.version, within=1)
    # Both models find words that a query and a description share.
    assert found.found_live == found.found_new == pytest.approx(2 / 3)
    assert found.overlap_at_10 == 1.0


def test_a_live_version_whose_model_is_gone_is_not_compared(tmp_path: Path) -> None:
    where = location(tmp_path / "table")
    rows = list(make_rows(make_archive(tmp_path / "archive")).values())
    # No model has this fingerprint.
    committer(where, text_column("fake", "0" * 32)).commit([stage(where, rows)])
    live = ImagesTable.open(where).version
    table = embed_again(where, "fake:dim=24")
    with pytest.raises(
        NotComparedError,
        match=rf"not compared, because the live version {live} .* is now a different",
    ):
        compare(table, live, table.version)
    # If the model of the new version is missing, the comparison fails.
    with pytest.raises(TableError, match="is now a different model"):
        compare(table, table.version, live)
    assert compare(table, table.version, table.version).num_queries == 3
