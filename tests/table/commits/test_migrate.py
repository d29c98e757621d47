"""A table of an earlier release is upgraded to the current format."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pytest

from skytext.errors import TableError, TableHeldError
from skytext.search.request import SearchRequest
from skytext.search.searcher import Searcher
from skytext.table.commits.adoption import settle
from skytext.table.commits.claim import hold
from skytext.table.commits.commit_rows import Committer
from skytext.table.commits.migrate import migrate
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import VECTOR_INDEX, index_names, read_facts
from skytext.table.indexes.build_indexes import num_unindexed_rows
from skytext.table.location import TableLocation
from tests.table.image_rows import image_column, image_vector, vectors_by_number
from tests.table.rows import DIM, location, rows_of, text_column, unit_vectors

# The last skytext version with format 3 wrote this table. The table contains 300 described images,
# one failed image, indexes, and the image vectors of the images 0 to 2. The images 300 and 301 and
# the image vector of image 3 are staged and not committed. The live version is the latest version.
FORMAT_3 = Path(__file__).parents[1] / "data" / "format_3.tar.xz"


@pytest.fixture
def where(tmp_path: Path) -> TableLocation:
    with tarfile.open(FORMAT_3) as archive:
        archive.extractall(tmp_path, filter="data")
    return location(tmp_path / "table")


def vector_of(number: int) -> Any:
    return unit_vectors(np.random.default_rng(number), (2, DIM))


class Given:
    """An embedder that returns the same vector for every text."""

    dim = DIM

    def embed_queries(self, texts: Any) -> Any:
        return np.array([vector_of(7)[1] for _ in texts])


def first_hit(table: ImagesTable) -> str:
    found = Searcher(table, Given()).search(SearchRequest(text="a river", mode="dense", k=1))
    return str(found.hits[0].uri)


def check(where: TableLocation) -> None:
    table = ImagesTable.open(where)
    assert [column.name for column in table.columns] == [
        "text_vectors_ffffffff",
        "image_vector_ffffffff",
    ]
    assert "vectors" not in table.dataset.schema.names
    rows = {row["member"]: row for row in rows_of(table, "member", "vectors")}
    assert len(rows) == 301
    np.testing.assert_array_equal(np.float32(rows["00042.jpg"]["vectors"]), vector_of(42))
    found = vectors_by_number(where)
    assert [number for number, vector in sorted(found.items()) if vector] == [0, 1, 2]
    np.testing.assert_array_equal(np.float32(found[2]), image_vector(2))


def test_names_change_and_rows_and_indexes_stay(where: TableLocation) -> None:
    before = ImagesTable.open(where)
    assert before.format_version == 3
    files = sorted(path.name for path in Path(where.uri, "images.lance", "data").iterdir())
    done = migrate(where)
    assert (done.from_format, done.to_format) == (3, 4)
    check(where)
    after = ImagesTable.open(where)
    assert index_names(after.dataset) == index_names(before.dataset)
    assert VECTOR_INDEX in index_names(after.dataset)
    assert read_facts(after.dataset) == read_facts(before.dataset) is not None
    assert num_unindexed_rows(after) == num_unindexed_rows(before)
    assert first_hit(after) == "file:///x/a.tar#00007.jpg"
    added = {path.name for path in Path(where.uri, "images.lance", "data").iterdir()} - {*files}
    # The new file contains the staged vector in the current format.
    assert len(added) == 1
    assert migrate(where) == type(done)(4, 4, done.table_version)


def test_earlier_versions_stay_readable(where: TableLocation) -> None:
    version = ImagesTable.open(where).version
    migrate(where)
    live = ImagesTable.open_served(where)
    assert (live.version, live.format_version) == (version, 3)
    assert first_hit(live) == "file:///x/a.tar#00007.jpg"


def test_writers_require_the_migration(where: TableLocation) -> None:
    version = ImagesTable.open(where).version
    with pytest.raises(TableError, match=r"has table format 3, .*: skytext migrate "):
        Committer(where, text_column(), version)
    with hold(where, "run", "caption") as claim, pytest.raises(TableError, match="migrate"):
        settle(claim, text_column())


def test_units_staged_before_the_migration_are_adopted_after_it(where: TableLocation) -> None:
    migrate(where)
    with hold(where, "run", "caption") as claim:
        found = settle(claim, text_column(), "captions", image_column())
    assert (found.num_adopted, found.num_vectors_adopted, found.num_discarded) == (2, 1, 0)
    rows = {row["member"]: row for row in rows_of(ImagesTable.open(where), "member", "vectors")}
    np.testing.assert_array_equal(np.float32(rows["00301.jpg"]["vectors"]), vector_of(301))
    np.testing.assert_array_equal(np.float32(vectors_by_number(where)[3]), image_vector(3))


@pytest.mark.parametrize("step", ["alter_columns", "update_schema_metadata"])
@pytest.mark.parametrize("after", [False, True])
def test_an_interrupted_migration_can_be_repeated(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    real = getattr(lance.LanceDataset, step)

    def ended(*arguments: Any, **options: Any) -> None:
        if after:
            real(*arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lance.LanceDataset, step, ended)
        with pytest.raises(KeyboardInterrupt):
            migrate(where)
    # A reader can open the table while the migration is incomplete.
    assert first_hit(ImagesTable.open(where)) == "file:///x/a.tar#00007.jpg"
    assert migrate(where).to_format == 4
    check(where)


def test_a_table_that_a_run_holds_is_not_changed(where: TableLocation) -> None:
    with hold(where, "run", "caption"), pytest.raises(TableHeldError):
        migrate(where)
    assert ImagesTable.open(where).format_version == 3
