"""The measured systems. Each system has the methods ``build`` and ``open``.

All systems rank images by the best vector of each image. Some systems cannot store several vectors
in one row. These systems fetch `OVER_FETCH` vectors, and keep the best vector of each image.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import lance
import numpy as np
import psutil
from numpy.typing import NDArray

from bench.search.measure import Search
from bench.search.table import NUM_VARIANTS, stored_vectors
from bench.search.vectors import Floats
from skytext.config.index import IndexConfig
from skytext.filters.conditions import Condition
from skytext.models.text_embedder import EmbedderInfo, Embeddings
from skytext.search import Searcher
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import prewarm
from skytext.table.indexes.build_indexes import build_indexes
from skytext.table.location import IMAGES, TableLocation

OVER_FETCH = 200


class System(Protocol):
    """One search system."""

    def build(self, table: ImagesTable, folder: Path) -> dict[str, Any]:
        """Build the index in ``folder``. Return values for the report."""

    def open(self, table: ImagesTable, folder: Path) -> Search:
        """Open the index that `build` made. Return the search function."""


class Skytext:
    """The `Searcher` of skytext. The embedding of the query is not measured.

    Args:
        where: a filter for all searches.
        config: index settings. None for the default settings.
    """

    def __init__(self, where: Condition | None = None, config: IndexConfig | None = None) -> None:
        self._where = where
        self._config = config or IndexConfig()

    def build(self, table: ImagesTable, folder: Path) -> dict[str, Any]:
        """Build all indexes that ``skytext index`` builds."""
        return build_indexes(clone_table(table, folder), self._config).to_json()

    def open(self, table: ImagesTable, folder: Path) -> Search:
        """Open the table in the same way as the service."""
        given = GivenVectors(table.text_column.dim)
        searcher = self._searcher(folder, given)

        def search(query: Floats, k: int) -> NDArray[np.int64]:
            hits = searcher.search(given.name(query), k, where=self._where, mode="dense").hits
            return image_numbers([hit.uri for hit in hits])

        return search

    def _searcher(self, folder: Path, given: GivenVectors) -> Searcher:
        searcher = Searcher(_open(folder), given, self._config)
        searcher.warm()
        return searcher


class SkytextCopied(Skytext):
    """The index of skytext. Candidates and hits are read from a local copy of the rows."""

    def _searcher(self, folder: Path, given: GivenVectors) -> Searcher:
        searcher = super()._searcher(folder, given)
        searcher.copy_rows(folder.parent / "rows")
        return searcher


class PlainLance(Skytext):
    """The index of skytext, which is searched with one call of Lance. The call returns only the
    image addresses.

    The numbers of probes and candidates were chosen because they reached a recall of 0.995 in an
    earlier measurement of Lance.
    """

    def open(self, table: ImagesTable, folder: Path) -> Search:
        """Open the table and read its index into memory."""
        dataset = _open(folder).dataset
        prewarm(dataset)

        def search(query: Floats, k: int) -> NDArray[np.int64]:
            nearest = {
                "column": table.text_column.name,
                "q": query,
                "k": k,
                "metric": "cosine",
                "nprobes": 40,
                "refine_factor": 5,
            }
            found = dataset.scanner(columns=["uri"], nearest=nearest).to_table()
            return image_numbers(found.column("uri").to_pylist())

        return search


class GivenVectors:
    """A thread-safe embedder. It returns vectors that were stored with `name`."""

    info = EmbedderInfo(device="cpu", precision="float32")

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._known: dict[str, Floats] = {}

    def name(self, vector: Floats) -> str:
        """Store a vector, and return a text. The embedding of this text is the vector."""
        text = str(hash(vector.tobytes()))
        self._known[text] = vector
        return text

    def embed_queries(self, texts: Sequence[str]) -> Floats:
        """Return the vectors of known texts, shape (texts, dim)."""
        return np.stack([self._known[text] for text in texts])

    def embed_documents(self, texts: Sequence[str]) -> Embeddings:
        """Return the vectors of known texts. No text is truncated."""
        return Embeddings(self.embed_queries(texts), np.zeros(len(texts), dtype=np.bool_))


class LanceDb:
    """LanceDB with default settings. Only the column and the metric are set.

    Args:
        where: a filter in the syntax of LanceDB.
    """

    def __init__(self, where: str | None = None) -> None:
        self._where = where

    def build(self, table: ImagesTable, folder: Path) -> dict[str, Any]:
        """Build LanceDB's default vector index."""
        import lancedb
        from lancedb.index import IvfPq

        clone_table(table, folder)
        images = lancedb.connect(folder).open_table(IMAGES)
        images.create_index(table.text_column.name, config=IvfPq(distance_type="cosine"))
        return {"kind": [index.index_type for index in images.list_indices()]}

    def open(self, table: ImagesTable, folder: Path) -> Search:
        """Open the table with LanceDB."""
        import lancedb

        images, column = lancedb.connect(folder).open_table(IMAGES), table.text_column.name

        def search(query: Floats, k: int) -> NDArray[np.int64]:
            asked = images.search(query, vector_column_name=column).limit(k).select(["uri"])
            if self._where is not None:
                asked = asked.where(self._where, prefilter=True)
            return image_numbers(asked.to_arrow().column("uri").to_pylist())

        return search


class ExactNumpy:
    """An exact search. All vectors are in memory, and each query is one matrix product."""

    def build(self, table: ImagesTable, folder: Path) -> dict[str, Any]:
        """Do nothing, because `open` reads the vectors."""
        return {}

    def open(self, table: ImagesTable, folder: Path) -> Search:
        """Read all vectors into memory.

        Raises:
            MemoryError: the vectors do not fit in memory.
        """
        dim, num_images = table.text_column.dim, table.num_rows()
        needed = 4 * num_images * NUM_VARIANTS * dim
        if psutil.virtual_memory().available < 1.1 * needed:
            raise MemoryError(f"exact search needs {needed / 2**30:.1f} GiB of free memory")
        matrix = np.empty((num_images * NUM_VARIANTS, dim), dtype=np.float32)
        first = 0
        for block in stored_vectors(table):
            matrix[first : first + block.shape[0] * NUM_VARIANTS] = block.reshape(-1, dim)
            first += block.shape[0] * NUM_VARIANTS

        def search(query: Floats, k: int) -> NDArray[np.int64]:
            scores = (matrix @ query).reshape(num_images, NUM_VARIANTS).max(axis=1)
            top = np.argpartition(-scores, k)[:k]
            return top[np.argsort(-scores[top])]

        return search


def best_images(vectors: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Return the ``k`` images with the best vectors, best first and without duplicates."""
    images = vectors[vectors >= 0] // NUM_VARIANTS
    _, firsts = np.unique(images, return_index=True)
    return images[np.sort(firsts)][:k]


def image_numbers(uris: Sequence[str]) -> NDArray[np.int64]:
    """Return the image numbers in the addresses of generated images (``…#000000123.jpg``)."""
    return np.array([int(uri[-13:-4]) for uri in uris], dtype=np.int64)


def clone_table(table: ImagesTable, folder: Path) -> ImagesTable:
    """Make a table with the same rows and the same data files, but without indexes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    location = TableLocation.parse(str(folder))
    # Version 1 of the table contains the rows but no indexes.
    lance.dataset(table.dataset.uri, version=1).shallow_clone(location.dataset_uri(IMAGES), 1)
    return ImagesTable.open(location)


def _open(folder: Path) -> ImagesTable:
    return ImagesTable.open(TableLocation.parse(str(folder)))
