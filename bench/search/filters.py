"""Measure searches with filters. The hits of the index are compared with exact hits from NumPy.

NumPy scores the vectors of all images that match the filter. Each filter selects a known number of
the earliest images. Therefore a search that returns too few hits is detected.

    python -m bench.search --only filters
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.search.measure import K
from bench.search.systems import GivenVectors, image_numbers
from bench.search.table import stored_vectors
from bench.search.truth import nearest_rows, recall
from bench.search.vectors import Floats
from skytext.filters.conditions import Compare
from skytext.search import Searcher
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation

PARTS = (0.00001, 0.01, 0.5, 0.99)
"""The share of the images that each filter selects. A filter selects at least one image."""

Numbers = NDArray[np.int64]


def measure_filters(
    folder: Path, queries: Floats, parts: Sequence[float] = PARTS, num_exact: int = 25
) -> dict[str, Any]:
    """Run every query with every filter.

    Args:
        folder: folder of a table with indexes.
        queries: unit vectors, shape (queries, dim).
        parts: the share of the images that each filter selects.
        num_exact: number of queries that are also run without the index.

    Returns:
        For each filter: ``recall_at_10``, milliseconds per search, ``num_short`` and
        ``num_different``. ``num_short`` is the number of searches that returned fewer hits than
        possible. ``num_exact`` queries are run with the index and without the index.
        ``num_different`` is the number of these queries that have different hits.
    """
    table = ImagesTable.open(TableLocation.parse(str(folder)))
    taken = table.dataset.to_table(columns=["datetime"]).column(0).to_numpy()
    earliest = np.sort(taken)
    filtered = _Filtered(table)
    found = {}
    for part in parts:
        num = max(1, round(part * len(taken)))
        keep = taken < earliest[num]
        truth = nearest_rows(queries, stored_vectors(table), K, keep)
        found[f"{part:g}"] = {
            "num_matches": int(keep.sum()),
            **filtered.compare(queries, truth, str(earliest[num]), num_exact),
        }
    return found


class _Filtered:
    """Searches of one table with filters."""

    def __init__(self, table: ImagesTable) -> None:
        self._given = GivenVectors(table.text_column.dim)
        self._searcher = Searcher(table, self._given)
        self._searcher.warm()

    def compare(
        self, queries: Floats, truth: Numbers, before: str, num_exact: int
    ) -> dict[str, Any]:
        """Search with one filter. Compare the hits with the ground truth and exact searches."""
        hits, times_s = [], []
        self._ask(queries[0], before)
        for query in queries:
            started = time.perf_counter()
            hits.append(self._ask(query, before))
            times_s.append(time.perf_counter() - started)
        exact = [self._ask(query, before, exact=True) for query in queries[:num_exact]]
        wanted = (truth >= 0).sum(axis=1)
        return {
            "num_queries": len(queries),
            "recall_at_10": round(recall(hits, truth), 4),
            "num_short": sum(
                len(found) < num for found, num in zip(hits, wanted.tolist(), strict=True)
            ),
            "num_exact": len(exact),
            "num_different": sum(
                set(one.tolist()) != set(other.tolist())
                for one, other in zip(hits, exact, strict=False)
            ),
            "p50_ms": round(float(np.median(times_s)) * 1e3, 2),
            "p99_ms": round(float(np.quantile(times_s, 0.99)) * 1e3, 2),
        }

    def _ask(self, query: Floats, before: str, *, exact: bool = False) -> Numbers:
        where = Compare(op="<", field="datetime", value=before)
        text = self._given.name(query)
        found = self._searcher.search(text, K, where=where, mode="dense", exact=exact)
        return image_numbers([hit.uri for hit in found.hits])
