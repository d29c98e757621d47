"""Search a table continuously while the table changes, and check every answer."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytext.captions.parsing import Variant, document_text
from skytext.config.embedding import EmbedConfig
from skytext.models.checkpoints import embed_model
from skytext.models.factory import make_embedder
from skytext.search.request import SearchRequest
from skytext.search.searcher import Searcher
from skytext.table.images_dataset import ImagesTable
from skytext.table.versions.held_versions import hold_versions
from tests.table.rows import rows_of

_WORDS = ("river", "forest", "harbour", "runway", "storage tank", "snow", "solar field")
_MODES: tuple[Any, ...] = ("dense", "text", "hybrid")
_NUM_OPEN = 4
# Vectors are stored as float32, so only the rounding of sums differs.
_ATOL = 1e-4


class ServedVersion:
    """A version that was live. Its rows are read without the searcher."""

    def __init__(self, searcher: Searcher) -> None:
        self._searcher = searcher
        self.version = searcher.table.version
        self._embedder = _embedder_of(searcher.table)
        rows = rows_of(searcher.table, "image_id", "status", "captions", "vectors")
        self._vectors = {
            row["image_id"]: np.array(row["vectors"], np.float32)
            for row in rows
            if row["status"] == "ok"
        }
        self._check_one_model(rows)

    def _check_one_model(self, rows: list[dict[str, Any]]) -> None:
        """Check that every description has the vectors of the version's model."""
        assert len({row["image_id"] for row in rows}) == len(rows)
        for row in rows:
            if row["status"] == "withdrawn":
                assert row["vectors"] is None
            if row["status"] == "ok":
                texts = [document_text(Variant(**variant)) for variant in row["captions"]]
                expected = self._embedder.embed_documents(texts).vectors
                np.testing.assert_allclose(self._vectors[row["image_id"]], expected, atol=_ATOL)

    def ask(self, rng: random.Random) -> float:
        """Search, compare each hit with the rows, and return the duration in seconds."""
        text, mode = rng.choice(_WORDS), rng.choice(_MODES)
        request = SearchRequest(text=text, mode=mode, exact=rng.random() < 0.5)
        started = time.perf_counter()
        result = self._searcher.search(request)
        duration_s = time.perf_counter() - started
        assert result.table_version == self.version
        scores = self._scores(text)
        for hit in result.hits:
            assert hit.image_id in scores, f"{hit.image_id} is not done in {self.version}"
            assert abs(hit.cosine - scores[hit.image_id]) < _ATOL
        if mode == "dense" and request.exact:
            best = sorted(scores.values(), reverse=True)[: request.k]
            np.testing.assert_allclose([hit.cosine for hit in result.hits], best, atol=_ATOL)
        return duration_s

    def _scores(self, text: str) -> dict[str, float]:
        query: NDArray[np.float32] = self._embedder.embed_queries([text])[0]
        return {name: float((rows @ query).max()) for name, rows in self._vectors.items()}


def _embedder_of(table: ImagesTable) -> Any:
    config = EmbedConfig(model=table.text_column.model)
    return make_embedder(config, embed_model(config))


class VersionReader(threading.Thread):
    """Opens the live version like a service, and keeps some older versions open.

    The thread searches all open versions.

    Attributes:
        num_searches: number of searches so far.
        num_versions: number of live versions so far.
        durations_s: durations of all searches so far.
    """

    def __init__(self, table: Path, seed: int, pause_s: float) -> None:
        super().__init__(name="reader", daemon=True)
        self._table, self._pause_s = table, pause_s
        self._rng = random.Random(seed)
        self._ended = threading.Event()
        self._open: dict[int, ServedVersion] = {}
        self._error: BaseException | None = None
        self.num_versions = 0
        self.durations_s: list[float] = []

    @property
    def num_searches(self) -> int:
        """The number of searches so far."""
        return len(self.durations_s)

    def run(self) -> None:
        """Search until `stop` is called."""
        try:
            while not self._ended.wait(self._pause_s):
                self._look()
        except BaseException as error:  # noqa: BLE001  (`check` raises it)
            self._error = error

    def _look(self) -> None:
        searcher = Searcher.open(str(self._table))
        if searcher.table.version not in self._open:
            self.num_versions += 1
            self._open[searcher.table.version] = ServedVersion(searcher)
            while len(self._open) > _NUM_OPEN:
                # The oldest version usually stays open.
                del self._open[sorted(self._open)[self._rng.random() < 0.9]]
            hold_versions(searcher.table.location, "reader", list(self._open))
        for version in self._open.values():
            self.durations_s.append(version.ask(self._rng))

    def check(self) -> None:
        """Raise the error of a search if there was an error.

        Raises:
            BaseException: an answer was wrong or missing.
        """
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """End the thread, and wait for the last search."""
        self._ended.set()
        self.join()


@contextlib.contextmanager
def reading(table: Path, seed: int, pause_s: float = 0.2) -> Iterator[VersionReader]:
    """Search during the block. At the end of the block, check that all answers were correct."""
    reader = VersionReader(table, seed, pause_s)
    reader.start()
    try:
        yield reader
    finally:
        reader.stop()
    reader.check()
