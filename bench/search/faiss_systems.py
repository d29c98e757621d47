"""Systems that use faiss.

The index contains all vectors, and the found vectors are grouped by image.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.search.measure import Search
from bench.search.systems import OVER_FETCH, best_images
from bench.search.table import NUM_VARIANTS, stored_vectors
from bench.search.vectors import Floats
from skytext.table.images_dataset import ImagesTable

_FILE = "faiss.index"
_SAMPLES_PER_PARTITION = 48
_NPROBE = 64
_EF_SEARCH = 128


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise SystemExit("faiss is not installed: run: pip install 'skytext[bench]'") from error
    return faiss


class FaissIvfPq:
    """IVF-PQ with an HNSW graph over the partitions.

    The tool autofaiss builds this kind of index for millions of vectors. The tool clip-retrieval
    uses autofaiss.

    Args:
        pq_bytes: number of bytes in the code of a vector.
        pq_iterations: number of k-means iterations for the codes. These iterations take most of the
            training time.
    """

    def __init__(self, pq_bytes: int = 96, pq_iterations: int = 25) -> None:
        self._pq_bytes = pq_bytes
        self._pq_iterations = pq_iterations

    def build(self, table: ImagesTable, folder: Path) -> dict[str, Any]:
        """Train the index on some vectors, and then add all vectors."""
        faiss = _faiss()
        dim = table.text_column.dim
        num_vectors = table.num_rows() * NUM_VARIANTS
        num_partitions = 2 ** round(math.log2(2 * math.sqrt(num_vectors)))
        key = f"IVF{num_partitions}_HNSW32,PQ{self._pq_bytes}x8"
        index = faiss.index_factory(dim, key, faiss.METRIC_INNER_PRODUCT)
        index.pq.cp.niter = self._pq_iterations
        index.train(_sample(table, min(num_vectors, num_partitions * _SAMPLES_PER_PARTITION)))
        for block in stored_vectors(table):
            index.add(np.ascontiguousarray(block.reshape(-1, dim)))
        folder.mkdir(parents=True, exist_ok=True)
        faiss.write_index(index, str(folder / _FILE))
        return {"kind": key, "nprobe": _NPROBE, "over_fetch": OVER_FETCH}

    def open(self, table: ImagesTable, folder: Path) -> Search:
        """Read the index into memory."""
        index = _faiss().read_index(str(folder / _FILE))
        index.nprobe = _NPROBE
        return _grouped(index)


class FaissHnsw:
    """An HNSW graph over uncompressed vectors, for tables whose vectors fit in memory."""

    def build(self, table: ImagesTable, folder: Path) -> dict[str, Any]:
        """Add all vectors to the graph."""
        faiss = _faiss()
        dim = table.text_column.dim
        index = faiss.IndexHNSWFlat(dim, 32, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 64
        for block in stored_vectors(table):
            index.add(np.ascontiguousarray(block.reshape(-1, dim)))
        folder.mkdir(parents=True, exist_ok=True)
        faiss.write_index(index, str(folder / _FILE))
        return {"kind": "HNSW32", "ef_search": _EF_SEARCH, "over_fetch": OVER_FETCH}

    def open(self, table: ImagesTable, folder: Path) -> Search:
        """Read the graph into memory."""
        index = _faiss().read_index(str(folder / _FILE))
        index.hnsw.efSearch = max(_EF_SEARCH, OVER_FETCH)
        return _grouped(index)


def _grouped(index: Any) -> Search:
    def search(query: Floats, k: int) -> NDArray[np.int64]:
        _, vectors = index.search(query[None], OVER_FETCH)
        return best_images(vectors[0], k)

    return search


def _sample(table: ImagesTable, num_vectors: int) -> Floats:
    """Return vectors of randomly chosen images."""
    num_images = -(-num_vectors // NUM_VARIANTS)
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(table.num_rows(), min(num_images, table.num_rows()), replace=False))
    name = table.text_column.name
    column = table.dataset.take(rows.tolist(), columns=[name]).column(name)
    flat = column.combine_chunks().flatten().flatten().to_numpy()
    return flat.reshape(-1, table.text_column.dim)
