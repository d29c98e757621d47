"""Choose the kind, the number of partitions and the bits of a vector index."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from skytext.config.index import IndexConfig, VectorIndexKind

# k-means with 64 vectors per partition takes a quarter of the time that it takes with 256 vectors
# per partition. The recall is the same.
_SAMPLE_RATE = 64
# At the same recall, an index of the kind RaBitQ was built much faster than every other kind
# (docs/benchmarks.md). lance-ray and Lance have different defaults for the number of bits, so the
# number is always passed. With 3 bits and a third more candidates, the recall was the same as with
# 5 bits, and the build took four fifths of the time.
_RQ_BITS = (3, 1)
# For each vector, RaBitQ stores a row id and other values in addition to the bits. This number is
# the size of the row id and the other values, in bytes.
_BYTES_BESIDE_CODE = 24


@dataclass(frozen=True, slots=True)
class VectorPlan:
    """The settings for building a vector index.

    Attributes:
        kind: name of the index type in Lance.
        num_partitions: number of IVF partitions.
        num_bits: bits per vector element; None if this kind of index has no such number.
        num_sub_vectors: number of sub-vectors in product quantisation; None for other kinds.
    """

    kind: str
    num_partitions: int
    num_bits: int | None = None
    num_sub_vectors: int | None = None

    def options(self) -> dict[str, Any]:
        """Return the arguments for Lance's ``create_index``, except column, kind and name."""
        options: dict[str, Any] = {
            "metric": "cosine",
            "num_partitions": self.num_partitions,
            "sample_rate": _SAMPLE_RATE,
        }
        if self.num_bits is not None:
            options["num_bits"] = self.num_bits
        if self.num_sub_vectors is not None:
            options["num_sub_vectors"] = self.num_sub_vectors
        return options


def choose_plan(num_vectors: int, dim: int, config: IndexConfig, memory_bytes: int) -> VectorPlan:
    """Choose an index for a number of vectors, their dimension and the memory size.

    The default is RaBitQ with 3 bits. If this index would need more than half of the memory, RaBitQ
    with 1 bit is used. RaBitQ needs a dimension that is a multiple of 8. For other dimensions,
    scalar quantisation is used. A value in the configuration replaces the default.

    Args:
        num_vectors: number of variants of all images.
        dim: length of a vector.
        config: the settings of the index.
        memory_bytes: memory size of the machine that searches, in bytes.
    """
    kind: VectorIndexKind = config.kind
    if kind == "auto":
        kind = "IVF_RQ" if dim % 8 == 0 else "IVF_SQ"
    num_bits = config.num_bits
    if kind == "IVF_RQ" and num_bits is None:
        sizes = {bits: index_bytes(num_vectors, dim, bits) for bits in _RQ_BITS}
        num_bits = next((b for b in _RQ_BITS if sizes[b] <= memory_bytes / 2), _RQ_BITS[-1])
    sub_vectors = None
    if kind.endswith("PQ"):
        sub_vectors = next(n for n in (dim // 4, dim // 2, dim) if n and dim % n == 0)
    return VectorPlan(
        kind=kind,
        num_partitions=config.num_partitions or choose_partitions(num_vectors),
        num_bits=num_bits if kind == "IVF_RQ" else None,
        num_sub_vectors=sub_vectors,
    )


def index_bytes(num_vectors: int, dim: int, num_bits: int) -> int:
    """Return the approximate size of a RaBitQ index in memory, in bytes."""
    return num_vectors * (dim * num_bits // 8 + _BYTES_BESIDE_CODE)


def choose_partitions(num_vectors: int) -> int:
    """Return the number of IVF partitions. It is half of the square root of the number of vectors.

    For five million vectors, this number is about 1,024. Compared with 512 partitions, a search
    with the same recall reads half as many vectors. Compared with 2,048 partitions, the build takes
    two thirds of the time (docs/reference/retrieval.md).
    """
    return max(1, round(math.sqrt(num_vectors) / 2))
