"""Embed the images of a unit, and stage their vectors: one CLIP-like model an actor.

INPUT    units of `skytext.table.schema.SAMPLE` rows as decoded.
OUTPUT   one row a unit: `skytext.run.units.UnitRecord`. The vectors themselves go to the store.
FAN-OUT  one unit to one record.
ON ERROR a model that cannot load ends the job; an image that failed before, or whose vector is not
         finite, is counted and gets none.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from skytext.config.embedding import ImageEmbedConfig
from skytext.models.checkpoints import ModelIdentity
from skytext.models.factory import make_image_embedder
from skytext.models.image_embedder import ImageEmbedder
from skytext.pixels.decode import decode_rgb
from skytext.run.control.stop_flag import StopFlag
from skytext.run.units import UnitHead, UnitRecord, unpack
from skytext.table.commits.stage_vectors import stage_vectors
from skytext.table.location import TableLocation
from skytext.table.vector_columns import VectorColumn

_NOT_FINITE = ("embed/embedding_failed", "the model gave no finite vector")


class EmbedImages:
    """One model; it loads with the first unit that holds images.

    Args:
        config: how it runs.
        model: the model.
        column: of the vectors, but for their length.
        location: the table.
        stop: once it is raised, units are left for the next run.
    """

    def __init__(
        self,
        config: ImageEmbedConfig,
        model: ModelIdentity,
        column: VectorColumn,
        location: TableLocation,
        stop: StopFlag | None = None,
    ) -> None:
        self._stop = stop
        self._config = config
        self._model = model
        self._column = column
        self._location = location
        self._embedder: ImageEmbedder | None = None

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Stage the unit's vectors; return its record as a table of one JSON text."""
        head, samples = unpack(batch)
        is_bad = pc.is_valid(samples.column("failure"))
        failures = [(f"{f['stage']}/{f['reason']}", f["detail"]) for f in _failures(samples)]
        good = samples.filter(pc.invert(is_bad))
        if good.num_rows and self._stop is not None and self._stop.is_raised():
            good = good.slice(0, 0)
        record = self._embed(head, good, failures)
        return pa.table({"record": [record.to_json()]})

    def _embed(self, head: UnitHead, good: pa.Table, failures: list[tuple[str, str]]) -> UnitRecord:
        if good.num_rows == 0:
            return _record(head, 0, failures)
        if self._embedder is None:
            self._embedder = make_image_embedder(self._config, self._model)
        embedder, started = self._embedder, time.monotonic()
        vectors = self._vectors(embedder, good.column("data"))
        embed_s = time.monotonic() - started
        finite = np.asarray(np.isfinite(vectors).all(axis=1))
        failures = failures + [_NOT_FINITE] * int((~finite).sum())
        if finite.any():
            self._stage(head.unit_id, embedder.dim, good.filter(pa.array(finite)), vectors[finite])
        info = embedder.info
        return _record(
            head, int(finite.sum()), failures, embed_s=embed_s, ran_on=(info.device, info.precision)
        )

    def _vectors(self, embedder: ImageEmbedder, data: pa.ChunkedArray) -> NDArray[np.float32]:
        """Decode and embed, a forward pass in memory at a time."""
        parts = []
        for first in range(0, len(data), self._config.batch_size):
            encoded = data.slice(first, self._config.batch_size).to_pylist()
            parts.append(embedder.embed_images([decode_rgb(image) for image in encoded]))
        return np.concatenate(parts)

    def _stage(
        self, unit_id: str, dim: int, images: pa.Table, vectors: NDArray[np.float32]
    ) -> None:
        column = dataclasses.replace(self._column, dim=dim)
        flat = pa.array(np.ascontiguousarray(vectors).reshape(-1), pa.float32())
        ids, contents = (images.column(n).to_pylist() for n in ("image_id", "content_sha256"))
        stage_vectors(
            self._location,
            unit_id,
            column,
            ids,
            contents,
            pa.FixedSizeListArray.from_arrays(flat, dim),
        )


def _failures(samples: pa.Table) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = samples.column("failure").drop_null().to_pylist()
    return found


def _record(
    head: UnitHead, num_embedded: int, failures: list[tuple[str, str]], **more: Any
) -> UnitRecord:
    return UnitRecord(
        head=head,
        num_rows=num_embedded or None,
        num_ok=num_embedded,
        num_failed=len(failures),
        failures=dict(Counter(key for key, _ in failures)),
        failure_samples=dict(reversed(failures)),
        **more,
    )
