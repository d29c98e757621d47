"""Ask a table: the nearest rows to a vector, by the paper's rule.

A multivector column with the cosine metric scores a row by the best of its vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skytext.config import IndexConfig
from skytext.schema import STATUS_OK
from skytext.table.images import ImagesTable
from skytext.table.index import VECTOR_INDEX, index_names


def has_vector_index(table: ImagesTable) -> bool:
    """Return whether searches of this version can use an index."""
    return VECTOR_INDEX in index_names(table.dataset)


def nearest(
    table: ImagesTable,
    vector: NDArray[np.float32],
    k: int,
    columns: list[str],
    *,
    config: IndexConfig,
    exact: bool,
) -> pa.Table:
    """Return the ``k`` rows nearest to ``vector``, best first, ``vectors`` among the columns.

    Args:
        table: the version to search.
        vector: float32, shape (dim,), unit length.
        k: rows wanted, at least 1.
        columns: of the images schema.
        config: probes and refinement.
        exact: score every row instead of asking the index.
    """
    query: dict[str, Any] = {
        "column": "vectors",
        "q": vector,
        "k": k,
        "metric": "cosine",
        "use_index": not exact,
    }
    if not exact:
        query |= {"nprobes": config.nprobes, "refine_factor": config.refine_factor}
    wanted = list(dict.fromkeys([*columns, "vectors", "_distance"]))
    return table.dataset.to_table(
        columns=wanted, nearest=query, filter=f"status = '{STATUS_OK}'", prefilter=True
    )
