"""Embed the images or descriptions of a unit, and stage the vectors. Each actor has one model.

INPUT    units of table rows. If images are embedded, a row has ``data`` or a ``failure``. If
         descriptions are embedded, a row has ``captions``.
OUTPUT   one `skytext.run.units.UnitRecord` per unit. The vectors are written to the store.
FAN-OUT  one unit gives one record.
ON ERROR if a model cannot be loaded, the job ends. A row gets no vector and is counted as failed in
         two cases: an earlier stage failed for this row, or the vector is not finite.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from skytext.captions.parsing import Variant, document_text
from skytext.models.image_embedder import ImageEmbedder
from skytext.models.text_embedder import Embedder
from skytext.pixels.decode import decode_rgb
from skytext.run.control.stop_flag import StopFlag
from skytext.run.stages.background_actor import run_in_background
from skytext.run.stages.embed_text import by_image, vector_lists
from skytext.run.units import UnitHead, UnitRecord, unpack
from skytext.table.commits.stage_vectors import stage_vectors
from skytext.table.location import TableLocation
from skytext.table.rows.missing_vectors import KEY
from skytext.table.vector_columns import VectorColumn

_NOT_FINITE = ("embed/embedding_failed", "the model returned no finite vector")


@dataclass(frozen=True, slots=True)
class Vectors:
    """The vectors of some rows.

    Attributes:
        entries: the vectors of each row. The array has the type of the vector column, and one entry
            per row.
        finite: whether the vectors of each row are finite, dtype bool, shape (rows,). Only finite
            vectors are written.
        dim: length of a vector.
        device: device of the model.
        precision: precision of the model.
    """

    entries: pa.Array
    finite: NDArray[np.bool_]
    dim: int
    device: str
    precision: str


class ImageModel:
    """A model that embeds encoded images.

    Args:
        embedder: the model.
        batch_size: number of images per forward pass. These images are decoded together.
    """

    def __init__(self, embedder: ImageEmbedder, batch_size: int) -> None:
        self._embedder = embedder
        self._batch_size = batch_size

    def __call__(self, rows: pa.Table) -> Vectors:
        """Embed the encoded images in the column ``data``."""
        parts, data = [], rows.column("data")
        for first in range(0, len(data), self._batch_size):
            encoded = data.slice(first, self._batch_size).to_pylist()
            parts.append(self._embedder.embed_images([decode_rgb(image) for image in encoded]))
        vectors, dim, info = np.concatenate(parts), self._embedder.dim, self._embedder.info
        flat = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
        entries = pa.FixedSizeListArray.from_arrays(flat, dim)
        finite = np.asarray(np.isfinite(vectors).all(axis=1))
        return Vectors(entries, finite, dim, info.device, info.precision)


class TextModel:
    """A model that embeds descriptions.

    Args:
        embedder: the model.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def __call__(self, rows: pa.Table) -> Vectors:
        """Embed the variants in the column ``captions``."""
        captions = rows.column("captions").to_pylist()
        texts = [document_text(Variant(**v)) for variants in captions for v in variants]
        found, dim, info = (
            self._embedder.embed_documents(texts),
            self._embedder.dim,
            self._embedder.info,
        )
        entries = vector_lists(found.vectors, captions, dim)
        finite = np.array([not count for count in by_image(~found.finite, captions)], np.bool_)
        return Vectors(entries, finite, dim, info.device, info.precision)


class StageVectors:
    """A stage with one model. The model is loaded when the first unit with rows arrives.

    Args:
        load: a function that loads the model.
        column: the vector column. Its ``dim`` is set when the vectors are staged.
        location: the table.
        stop: the stop flag of the run. If the flag is raised, the remaining units are not embedded.
            The next run processes these units.
        num_actors: the result of `skytext.run.stages.background_actor.number_to_share`.
    """

    def __init__(
        self,
        load: Callable[[], Callable[[pa.Table], Vectors]],
        column: VectorColumn,
        location: TableLocation,
        stop: StopFlag | None = None,
        num_actors: int = 0,
    ) -> None:
        if num_actors:
            run_in_background(num_actors)
        self._load = load
        self._column = column
        self._location = location
        self._stop = stop
        self._model: Callable[[pa.Table], Vectors] | None = None

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Embed a unit and stage its vectors.

        Returns:
            A table with one JSON string, which is the record of the unit.
        """
        head, rows = unpack(batch)
        failures: list[tuple[str, str]] = []
        if "failure" in rows.column_names:
            failed = rows.column("failure").drop_null().to_pylist()
            failures = [(f"{f['stage']}/{f['reason']}", f["detail"]) for f in failed]
            rows = rows.filter(pc.is_null(rows.column("failure")))
        if rows.num_rows and self._stop is not None and self._stop.is_raised():
            rows = rows.slice(0, 0)
        record = self._embed(head, rows, failures)
        return pa.table({"record": [record.to_json()]})

    def _embed(self, head: UnitHead, rows: pa.Table, failures: list[tuple[str, str]]) -> UnitRecord:
        if rows.num_rows == 0:
            return _record(head, 0, failures)
        if self._model is None:
            self._model = self._load()
        started = time.monotonic()
        found = self._model(rows)
        embed_s = time.monotonic() - started
        num_kept = int(found.finite.sum())
        failures = failures + [_NOT_FINITE] * (rows.num_rows - num_kept)
        if num_kept:
            self._stage(head.unit_id, rows, found)
        ran_on = (found.device, found.precision)
        return _record(head, num_kept, failures, embed_s=embed_s, ran_on=ran_on)

    def _stage(self, unit_id: str, rows: pa.Table, found: Vectors) -> None:
        kept = pa.array(found.finite)
        rows = rows.filter(kept)
        stage_vectors(
            self._location,
            unit_id,
            dataclasses.replace(self._column, dim=found.dim),
            rows.column("image_id").to_pylist(),
            rows.column(KEY[self._column.kind]).to_pylist(),
            found.entries.filter(kept),
        )


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
