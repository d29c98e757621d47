"""An index on the images' own vectors, for tables too large to score row by row."""

from __future__ import annotations

import math

from skytext.config import IndexConfig
from skytext.table.image_column import IMAGE_VECTOR_INDEX, num_with_vector
from skytext.table.images import IMAGE_VECTOR, ImagesTable

# As for the descriptions' vectors, the cheapest to build at equal recall: docs/benchmarks.md.
_KIND, _NUM_BITS, _SAMPLE_RATE = "IVF_RQ", 5, 64


def build_image_index(table: ImagesTable, config: IndexConfig) -> int | None:
    """Build or refresh the index on a table's image vectors, at its latest version.

    It follows ``index.vector`` and ``index.exact_below_rows`` as the descriptions' does; where none
    is wanted, one that is there goes.

    Returns:
        The number of partitions; None where search is exact, or there are no image vectors.
    """
    latest = ImagesTable.open(table.location)
    if IMAGE_VECTOR not in latest.dataset.schema.names:
        return None
    _, num_rows = num_with_vector(latest)
    wanted = config.vector == "always" or (
        config.vector == "auto" and num_rows >= config.exact_below_rows
    )
    if not wanted or num_rows == 0:
        if has_image_index(latest):
            latest.dataset.drop_index(IMAGE_VECTOR_INDEX)
        return None
    num_partitions = max(1, round(math.sqrt(num_rows) / 4))
    latest.dataset.create_index(
        IMAGE_VECTOR,
        _KIND,
        name=IMAGE_VECTOR_INDEX,
        metric="cosine",
        num_partitions=num_partitions,
        num_bits=_NUM_BITS,
        sample_rate=_SAMPLE_RATE,
        replace=True,
    )
    return num_partitions


def has_image_index(table: ImagesTable) -> bool:
    """Return whether searches of this version by image vectors can use an index."""
    return IMAGE_VECTOR_INDEX in {index.name for index in table.dataset.describe_indices()}
