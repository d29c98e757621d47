"""A search reports that no image fits well if unrelated questions have equally good scores."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from skytext.config.pixels import ImageConfig
from skytext.config.settings import Config
from skytext.models.fakes.embedders import FakeEmbedder
from skytext.search import Example, Searcher, SearchRequest
from skytext.search.unrelated_questions import UNRELATED_QUESTIONS, measure_chance
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import read_chance_score
from skytext.table.vector_columns import VectorKind
from tests.search.test_image_modes import make_searched
from tests.table.rows import good_row, location, make_table

NOTE = r"no image fits well: the best score is .* 95% of queries about unrelated subjects have"


@pytest.fixture(scope="module")
def searcher(tmp_path_factory: pytest.TempPathFactory) -> Searcher:
    made = make_searched(tmp_path_factory.mktemp("chance") / "table")
    measured = measure_chance(made, Config())
    assert measured.problems == ()
    return Searcher.open(made.location.uri, with_images=True)


def test_each_question_is_measured_by_its_best_image(searcher: Searcher) -> None:
    table = searcher.table
    assert table.image_column is not None
    rows = table.dataset.to_table(filter="status = 'ok'").to_pylist()
    stored = np.array([v for row in rows for v in row[table.text_column.name]])
    best = (FakeEmbedder().embed_queries(UNRELATED_QUESTIONS) @ stored.T).max(axis=1)
    chance = read_chance_score(table.dataset, table.text_column.name)
    assert chance is not None
    assert chance.score == pytest.approx(float(np.quantile(best, 0.95)), abs=1e-4)
    assert chance.num_questions == len(UNRELATED_QUESTIONS) == len(set(UNRELATED_QUESTIONS))
    assert read_chance_score(table.dataset, table.image_column.name) is not None


def test_a_search_says_that_nothing_fits_well(searcher: Searcher) -> None:
    fits = searcher.search(SearchRequest(text="a red roof", mode="dense"))
    assert fits.note is None
    poor = searcher.search(SearchRequest(text="zzz qqq xxx", mode="dense", k=2))
    assert poor.note is not None
    assert re.match(NOTE, poor.note)
    assert len(poor.hits) == 2
    # The note is only on the first page.
    request = SearchRequest(text="zzz qqq xxx", mode="dense", k=2, cursor=poor.next_cursor)
    assert searcher.search(request).note is None


def test_images_have_a_measure_of_their_own(searcher: Searcher) -> None:
    assert searcher.search(SearchRequest(text="red", mode="image")).note is None
    away = SearchRequest(text="neither of the colours", mode="image")
    chance = read_chance_score(searcher.table.dataset, str(searcher.table.image_column.name))  # type: ignore[union-attr]
    assert chance is not None
    result = searcher.search(away)
    best = max(hit.score for hit in result.hits if hit.score is not None)
    assert (result.note is not None) == (best < chance.score)


def test_the_note_appears_only_for_text_queries(searcher: Searcher) -> None:
    image_id = str(good_row("a.jpg")["image_id"])
    for request in (
        SearchRequest(like=(image_id,), mode="dense"),
        SearchRequest(text="zzz qqq", positive=(Example(text="xxx"),), mode="dense"),
    ):
        assert searcher.search(request).note is None


def test_there_is_no_note_without_a_measured_chance_score(tmp_path: Path) -> None:
    made = make_searched(tmp_path / "table")
    assert Searcher.open(made.location.uri).search("zzz qqq xxx").note is None


def test_stored_chance_scores_are_measured_again_only_on_request(searcher: Searcher) -> None:
    version = ImagesTable.open(searcher.table.location).version
    assert measure_chance(searcher.table, Config(), only_missing=True) == ({}, ())
    assert ImagesTable.open(searcher.table.location).version == version
    assert set(measure_chance(searcher.table, Config()).scores) == set(VectorKind)


def test_a_model_that_cannot_be_loaded_is_reported(tmp_path: Path) -> None:
    made = make_searched(tmp_path / "table")
    other = Config(images=ImageConfig(max_side_px=77))
    measured = measure_chance(made, other)
    assert list(measured.scores) == [VectorKind.TEXT]
    (problem,) = measured.problems
    assert problem.startswith("searches cannot report that no image fits well: the images of")


def test_a_table_of_another_model_is_left_as_it_is(tmp_path: Path) -> None:
    table = make_table(location(tmp_path / "t"), [good_row("a.jpg")])
    measured = measure_chance(table, Config())
    assert measured.scores == {}
    assert len(measured.problems) == 1
    assert ImagesTable.open(table.location).version == table.version
