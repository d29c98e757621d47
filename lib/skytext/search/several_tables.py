"""Search several tables together, as if their rows were in one table.

Each retriever finds candidates in every table. It scores a candidate with the vectors and words in
the table that contains the candidate. The ranker receives one list with the candidates of all
tables. It computes one best score for all tables together, so the fused scores of images in
different tables are comparable. There is one exception: BM25 uses the word statistics of a single
table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from skytext.search.ranking_inputs import Question, Served
from skytext.search.request import RETRIEVERS, Kind
from skytext.search.retrievers.retriever import Candidates, Retriever
from skytext.table.images_dataset import ImagesTable
from skytext.table.queries.caption_queries import Floats, RowIds, Variants, end_of_row_ids
from skytext.table.queries.hit_column import HitRow
from skytext.table.vector_columns import VectorKind

T = TypeVar("T")


class RowIdSpace:
    """Row ids that are unique across several tables.

    The row ids of the first table do not change. In each further table, a constant is added to the
    row ids, so that they begin after the row ids of the previous table.

    Args:
        tables: the versions of the tables, in a fixed order.
    """

    def __init__(self, tables: Sequence[ImagesTable]) -> None:
        ends = np.cumsum([end_of_row_ids(table) for table in tables], dtype=np.uint64)
        self._starts: RowIds = np.concatenate([np.zeros(1, np.uint64), ends[:-1]])

    def joined(self, ids: Sequence[RowIds]) -> RowIds:
        """Convert the row ids of each table to unique row ids, and concatenate them."""
        return np.concatenate([of + start for of, start in zip(ids, self._starts, strict=True)])

    def split(self, ids: RowIds) -> list[tuple[NDArray[np.intp], RowIds]]:
        """Split unique row ids by table.

        Returns:
            Two arrays for each table: the indices of its rows in ``ids``, and the row ids of these
            rows in the table.
        """
        table = self.table_of(ids)
        places = [np.flatnonzero(table == i) for i in range(len(self._starts))]
        return [(at, ids[at] - start) for at, start in zip(places, self._starts, strict=True)]

    def table_of(self, ids: RowIds) -> NDArray[np.intp]:
        """Return for each row the index of the table that contains the row."""
        return np.searchsorted(self._starts, ids, side="right") - 1

    def joined_variants(self, variants: Sequence[Variants]) -> Variants:
        """Concatenate the vectors from all tables."""
        lengths = np.cumsum([0, *(len(of.vectors) for of in variants)])
        return Variants(
            self.joined([of.ids for of in variants]),
            np.concatenate([of.vectors for of in variants]),
            np.concatenate([of.offsets + n for of, n in zip(variants, lengths, strict=False)]),
        )


class JoinedRetriever:
    """A retriever that searches several tables.

    Args:
        parts: one retriever per table.
        space: converts between row ids of one table and unique row ids.
    """

    def __init__(self, parts: Sequence[Retriever], space: RowIdSpace) -> None:
        self._parts = parts
        self._space = space
        self.lowest = parts[0].lowest

    @property
    def num_scanned(self) -> int | None:
        """The number of matching images if all of them are scored. None if an index is used."""
        counts = [part.num_scanned for part in self._parts]
        return None if None in counts else sum(filter(None, counts))

    @property
    def fetched(self) -> Variants | None:
        """The vectors of the images in the last call of `scores`. None if there are no vectors."""
        fetched = [part.fetched for part in self._parts]
        there = [variants for variants in fetched if variants is not None]
        return self._space.joined_variants(there) if len(there) == len(fetched) else None

    def candidates(self, num: int) -> Candidates:
        """Return at least the best ``num`` images for each query in each table."""
        found = [part.candidates(num) for part in self._parts]
        return Candidates(
            self._space.joined([of.ids for of in found]),
            exact=all(of.exact for of in found),
            complete=all(of.complete for of in found),
            scores=self._scores_of(found),
        )

    def scores(self, ids: RowIds) -> Floats:
        """Return scores, shape (queries, images). NaN means that an image cannot be scored."""
        split = self._space.split(ids)
        found = [part.scores(own) for part, (_, own) in zip(self._parts, split, strict=True)]
        scores = np.empty((len(found[0]), len(ids)), np.float32)
        for (places, _), of_table in zip(split, found, strict=True):
            scores[:, places] = of_table
        return scores

    def _scores_of(self, found: Sequence[Candidates]) -> Floats | None:
        """Return the scores of the candidates. None if no table scored its candidates."""
        if all(of.scores is None for of in found):
            return None
        return np.concatenate(
            [
                part.scores(of.ids) if of.scores is None else of.scores
                for part, of in zip(self._parts, found, strict=True)
            ],
            axis=1,
        )


class ServedTables:
    """Several tables that are searched together.

    The class implements `skytext.search.ranking_inputs.Searched`.

    Args:
        parts: at least two tables. All tables were embedded with the same models.
    """

    def __init__(self, parts: Sequence[Served]) -> None:
        self._parts = parts
        self._space = RowIdSpace([part.table for part in parts])

    @property
    def name(self) -> str:
        """A readable name, for messages."""
        return "each of the tables " + ", ".join(part.table.location.uri for part in self._parts)

    @property
    def dim(self) -> int:
        """The number of dimensions of the description vectors."""
        return self._parts[0].dim

    def retrievers(self, question: Question) -> dict[Kind, Retriever]:
        """Return the retrievers for a question, in the order of `RETRIEVERS`.

        Raises:
            CallError: the comparison of images with a geometry in the filter takes too long.
        """
        of_parts = [part.retrievers(question) for part in self._parts]
        return {
            kind: JoinedRetriever([of_part[kind] for of_part in of_parts], self._space)
            for kind in RETRIEVERS[question.mode]
        }

    def find_images(self, image_ids: Sequence[str]) -> dict[str, list[int]]:
        """Return the row ids of captioned images. The keys of the result are image ids.

        An image has one row id for each table that contains the image.
        """
        of_parts = [part.find_images(image_ids) for part in self._parts]
        found: dict[str, list[int]] = {}
        for image_id in image_ids:
            own = [np.array(of.get(image_id, []), np.uint64) for of in of_parts]
            joined = self._space.joined(own).tolist()
            found |= {image_id: joined} if joined else {}
        return found

    def variants(self, ids: RowIds, kind: VectorKind = VectorKind.TEXT) -> Variants:
        """Return the vectors of rows in the order of ``ids``. Omit rows without a vector."""
        split = self._space.split(ids)
        joined = self._space.joined_variants(
            [part.variants(own, kind) for part, (_, own) in zip(self._parts, split, strict=True)]
        )
        there = ids[np.isin(ids, joined.ids)]
        if not len(there):
            return joined
        vectors = joined.of_rows(there)
        offsets = np.cumsum([0, *map(len, vectors[:-1])])
        return Variants(there, np.concatenate(vectors), offsets)

    def hits(self, ids: RowIds) -> list[HitRow]:
        """Return the values that a hit shows, for captioned rows, in the order of ``ids``."""
        return self._in_order(ids, lambda part, own: part.hits(own))

    def values(self, ids: RowIds, column: str) -> list[Any]:
        """Return the values of one column, in the order of ``ids``."""
        return self._in_order(ids, lambda part, own: part.values(own, column))

    def tables(self, ids: RowIds) -> list[str | None]:
        """Return for each row the address of the table that contains the row."""
        return [self._parts[i].table.location.uri for i in self._space.table_of(ids)]

    def _in_order(self, ids: RowIds, ask: Callable[[Served, RowIds], Sequence[T]]) -> list[T]:
        """Call ``ask`` for the rows of each table. Return the values in the order of ``ids``."""
        answers: dict[int, T] = {}
        for part, (places, own) in zip(self._parts, self._space.split(ids), strict=True):
            answers |= zip(places.tolist(), ask(part, own), strict=True)
        return [answers[place] for place in range(len(ids))]
