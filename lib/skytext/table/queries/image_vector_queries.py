"""Ask one version of a table which images lie near a vector of their own column.

Rows are named by their row id, which is theirs within one version. What people see of a row is
fetched at the end, for the few that are shown.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skytext.config.index import IndexConfig
from skytext.filters.conditions import Condition
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import (
    IMAGE_VECTOR_INDEX,
    NEIGHBOURS,
    Probing,
    VectorIndexFacts,
    read_facts,
)
from skytext.table.missing_vectors import image_column_of
from skytext.table.queries.caption_queries import count_matching, near, take

# As for the descriptions' vectors: up to here an exact answer is worth what it costs more.
_SCORED_WITHOUT_INDEX = 3_000

RowIds = NDArray[np.uint64]
Floats = NDArray[np.float32]


class Nearest(NamedTuple):
    """The rows nearest to a vector, best first.

    Attributes:
        ids: row ids, shape (rows,).
        cosines: with the vector, float32, shape (rows,).
        exact: every matching row was scored.
    """

    ids: RowIds
    cosines: Floats
    exact: bool


class Scores(NamedTuple):
    """Cosines of some rows with two queries.

    Attributes:
        ids: row ids, shape (rows,).
        image: with the image's own vector, float32, shape (rows,); NaN where it has none.
        text: with the best of its variants, float32, shape (rows,).
        variant: which variant that is, shape (rows,).
    """

    ids: RowIds
    image: Floats
    text: Floats
    variant: NDArray[np.intp]


def nearest_images(
    table: ImagesTable,
    vector: Floats,
    k: int,
    *,
    exact: bool = False,
    where: Condition | None = None,
) -> Nearest:
    """Return the ``k`` images whose own vectors are nearest; fewer only where fewer match.

    An index looks into the partitions around the query, as many as it was measured to need, and
    one that was never measured is not asked. What matches a filter may lie in others: more are
    looked into, and where few match, or the index finds too few, all that match are scored.

    Args:
        table: a version that has image vectors.
        vector: of the query, float32, shape (dim,), unit length.
        k: rows wanted, at least 1.
        exact: score every row instead of asking the index.
        where: only rows that it lets through are scored.
    """
    return _nearest(table, image_column_of(table).name, IMAGE_VECTOR_INDEX, vector, k, exact, where)


def nearest_descriptions(
    table: ImagesTable,
    vector: Floats,
    k: int,
    *,
    index: str,
    exact: bool = False,
    where: Condition | None = None,
) -> Nearest:
    """Return the ``k`` images the best of whose variants is nearest.

    Args: as `nearest_images`, and
        index: the name of the index on the variants' vectors.
    """
    return _nearest(table, table.text_column.name, index, vector, k, exact, where)


def score_rows(
    table: ImagesTable, ids: RowIds, image_query: Floats, text_query: Floats | None
) -> Scores:
    """Score some rows exactly, by their own vectors and by the best of their variants.

    Args:
        table: a version that has image vectors.
        ids: row ids, each once.
        image_query: in the space of the images, unit length.
        text_query: in the space of the descriptions, unit length; None: ``text`` is NaN and
            ``variant`` 0.
    """
    own_name, text_name = image_column_of(table).name, table.text_column.name
    rows = take(table, ids, [own_name, *([] if text_query is None else [text_name])])
    own = rows.column(own_name).to_pylist()
    nothing = np.full(len(image_query), np.nan, np.float32)
    matrix = np.array([nothing if vector is None else vector for vector in own], np.float32)
    image = matrix.reshape(-1, len(image_query)) @ image_query
    text = np.full(len(image), np.nan, np.float32)
    variant = np.zeros(len(image), np.intp)
    if text_query is not None:
        for i, vectors in enumerate(rows.column(text_name).to_pylist()):
            cosines = np.asarray(vectors, np.float32) @ text_query
            variant[i] = int(np.argmax(cosines))
            text[i] = cosines[variant[i]]
    found = rows.column("_rowid").to_numpy().astype(np.uint64)
    return Scores(found, image.astype(np.float32), text, variant)


def _nearest(
    table: ImagesTable,
    column: str,
    index: str,
    vector: Floats,
    k: int,
    exact: bool,
    where: Condition | None,
) -> Nearest:
    facts = None if exact else read_facts(table.dataset, index)
    probing = None if facts is None else _probing(table, facts, k, where)
    if probing is not None:
        ids, cosines = ask_index(table, column, vector, k, probing, where)
        if len(ids) == k:
            return Nearest(ids, cosines, exact=False)
    return Nearest(*_ask(table, column, vector, k, {"use_index": False}, where), exact=True)


def _probing(
    table: ImagesTable, facts: VectorIndexFacts, k: int, where: Condition | None
) -> Probing | None:
    """Return how far a search looks; None where scoring all that match is as good."""
    # As measured: settings that were given hold from the build on.
    probing = facts.probing(IndexConfig())
    if where is None:
        return probing
    num_matching = count_matching(table, where)
    if num_matching <= max(_SCORED_WITHOUT_INDEX, k):
        return None
    return probing.widened(num_matching / count_matching(table), facts.num_partitions)


def ask_index(
    table: ImagesTable,
    column: str,
    vector: Floats,
    k: int,
    probing: Probing,
    where: Condition | None = None,
) -> tuple[RowIds, Floats]:
    """Return what an index finds: row ids and exact cosines, each of shape (≤ k,), best first.

    Args:
        table: a version with the index.
        column: that the index is on.
        vector: of the query, float32, shape (dim,), unit length.
        k: rows wanted, at least 1.
        probing: how far to look.
        where: only rows that it lets through are found.
    """
    options = {"refine_factor": probing.refine_factor} | probing.partitions()
    # What an index finds is measured on ten: fewer are looked for as ten are.
    ids, cosines = _ask(table, column, vector, max(k, NEIGHBOURS), options, where)
    return ids[:k], cosines[:k]


def _ask(
    table: ImagesTable,
    column: str,
    vector: Floats,
    k: int,
    options: dict[str, Any],
    where: Condition | None,
) -> tuple[RowIds, Floats]:
    # A search finds no row whose vector is null, and only rows that are done have one: to filter
    # for that would read the whole column.
    scanner = table.dataset.scanner(
        columns=["_distance"],
        with_row_id=True,
        nearest=near(column, vector, k) | options,
        filter=None if where is None else where.sql(),
        prefilter=where is not None,
    )
    found = scanner.to_table()
    distances = found.column("_distance").to_numpy()
    return found.column("_rowid").to_numpy().astype(np.uint64), (1 - distances).astype(np.float32)
