"""Embed the images of a unit, and stage their vectors: one CLIP-like model an actor.

INPUT    units of `skytext.run.image_vectors.fetch_images.FETCHED`.
OUTPUT   one row a unit: `VectorRecord` as a JSON text. The vectors themselves go to the store.
FAN-OUT  one unit to one record.
ON ERROR a model that cannot load ends the job; an image whose vector is not finite is counted and
         gets none.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skytext.config.embedding import ImageEmbedConfig
from skytext.models.checkpoints import ModelIdentity
from skytext.models.factory import make_image_embedder
from skytext.models.image_embedder import ImageEmbedder
from skytext.pixels.decode import decode_rgb
from skytext.run.control.stop_flag import StopFlag
from skytext.run.image_vectors.fetch_images import Failures
from skytext.table.commits.stage_image_vectors import stage_vectors
from skytext.table.image_vector_column import ImageIdentity
from skytext.table.location import TableLocation


@dataclass(frozen=True, slots=True)
class VectorRecord:
    """What the driver learns of a unit.

    Attributes:
        unit_id: what is staged; None where there is nothing.
        num_embedded: images that got a vector.
        num_left: images not looked at, because the run is to stop.
        failures: `Failures` as a JSON text.
        embed_s: seconds in the model, decoding included.
        precision: that the model ran in; None where it did not.
        device: that the model ran on; None where it did not.
    """

    unit_id: str | None
    num_embedded: int
    num_left: int
    failures: str
    embed_s: float = 0.0
    precision: str | None = None
    device: str | None = None

    def to_json(self) -> str:
        """Return the record as a JSON text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> VectorRecord:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))


class EmbedImages:
    """One model; it loads with the first unit that holds images.

    Args:
        config: how it runs.
        model: the model.
        fingerprint: of the model and the pixels it sees.
        location: the table.
        stop: once it is raised, units are left for the next run.
    """

    def __init__(
        self,
        config: ImageEmbedConfig,
        model: ModelIdentity,
        fingerprint: str,
        location: TableLocation,
        stop: StopFlag | None = None,
    ) -> None:
        self._stop = stop
        self._config = config
        self._model = model
        self._fingerprint = fingerprint
        self._location = location
        self._embedder: ImageEmbedder | None = None

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Stage the unit's vectors; return its record."""
        if batch.num_rows != 1:
            raise ValueError(f"a batch must hold one unit, not {batch.num_rows}")
        images = batch.column("images")[0].values
        failures = Failures.from_json(batch.column("failures")[0].as_py())
        num_left = batch.column("num_left")[0].as_py()
        if images is None or len(images) == 0:
            return _table(VectorRecord(None, 0, num_left, failures.to_json()))
        if self._stop is not None and self._stop.is_raised():
            return _table(VectorRecord(None, 0, num_left + len(images), failures.to_json()))
        if self._embedder is None:
            self._embedder = make_image_embedder(self._config, self._model)
        embedder, started = self._embedder, time.monotonic()
        vectors = self._embed(embedder, images.field("data"))
        embed_s = time.monotonic() - started
        finite = np.asarray(np.isfinite(vectors).all(axis=1))
        if not finite.all():
            lost = int((~finite).sum())
            failures.add("embed/embedding_failed", "the model gave no finite vector", lost)
        unit_id = batch.column("unit_id")[0].as_py()
        if finite.any():
            self._stage(unit_id, embedder, images, vectors, finite)
        record = VectorRecord(
            unit_id=unit_id if finite.any() else None,
            num_embedded=int(finite.sum()),
            num_left=num_left,
            failures=failures.to_json(),
            embed_s=embed_s,
            precision=embedder.info.precision,
            device=embedder.info.device,
        )
        return _table(record)

    def _embed(self, embedder: ImageEmbedder, data: pa.Array) -> NDArray[np.float32]:
        """Decode and embed, a forward pass in memory at a time."""
        parts = []
        for first in range(0, len(data), self._config.batch_size):
            encoded = data.slice(first, self._config.batch_size).to_pylist()
            parts.append(embedder.embed_images([decode_rgb(image) for image in encoded]))
        return np.concatenate(parts)

    def _stage(
        self,
        unit_id: str,
        embedder: ImageEmbedder,
        images: pa.StructArray,
        vectors: NDArray[np.float32],
        finite: NDArray[np.bool_],
    ) -> None:
        kept = images.filter(pa.array(finite))
        stage_vectors(
            self._location,
            unit_id,
            ImageIdentity(
                fingerprint=self._fingerprint,
                model=self._model.name,
                revision=self._model.hub_revision,
                dim=embedder.dim,
            ),
            kept.field("image_id").to_pylist(),
            kept.field("content_sha256").to_pylist(),
            vectors[finite],
        )


def _table(record: VectorRecord) -> Any:
    return pa.table({"record": [record.to_json()]})
