"""Embed the variants of a unit. Each actor has one or two sentence-transformers models.

While the embedding model of a table changes, new rows get vectors of the old model and vectors of
the new model.

INPUT    units of `skytext.table.schema.CAPTIONED` rows.
OUTPUT   units of `skytext.table.schema.embedded` rows. ``vectors[i]`` is the vector that the first
         model computes for ``captions[i]``. ``pending_vectors[i]`` is the vector that the second
         model computes for ``captions[i]``.
FAN-OUT  one input unit gives one output unit.
ON ERROR if a model cannot be loaded, the job ends. The vectors of failed rows are null. If the
         first model returns no finite vector for a variant, the image becomes a failed row. If the
         second model returns no finite vector for a variant, the image's pending vectors are null.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from ray.exceptions import RayError

from skytext.captions.parsing import Variant, document_text
from skytext.config.embedding import EmbedConfig
from skytext.errors import Reason, SampleError, SkytextError, Stage
from skytext.models.checkpoints import ModelIdentity
from skytext.models.factory import make_embedder
from skytext.models.fingerprints import embedding_fingerprint
from skytext.models.text_embedder import Embedder, Embeddings
from skytext.run.control.live_count import LiveCount
from skytext.run.stages.background_actor import run_in_background
from skytext.run.units import UnitHead, failure_row, pack, unpack
from skytext.table.schema import PENDING_VECTORS, STATUS_FAILED, embedded

_POLL_S = 0.5


class EmbedUnits:
    """A stage with one or two embedding models.

    The models are loaded when the first unit with rows arrives, or earlier if ``live_count`` is
    given.

    Args:
        config: the embedding settings.
        model: the first model.
        pending: a function that loads the second model; None if there is no second model.
        live_count: if it is given, the models are loaded as soon as an engine of the run starts. So
            they are ready when the first unit arrives.
        num_actors: the result of `skytext.run.stages.background_actor.number_to_share`. None if the
            stage does not run in an actor.
    """

    def __init__(
        self,
        config: EmbedConfig,
        model: ModelIdentity,
        pending: Callable[[], Embedder] | None = None,
        live_count: LiveCount | None = None,
        num_actors: int | None = None,
    ) -> None:
        self._config = config
        self._model = model
        self._load_pending = pending
        self._lineage = {
            "embedding_fingerprint": embedding_fingerprint(model),
            "embedding_model": model.name,
            "embedding_model_revision": model.revision,
        }
        self._models: tuple[Embedder, Embedder | None] | None = None
        self._loading = threading.Lock()
        # If there are few CPUs, the front end of the engine must have priority over this actor.
        # This actor can process its units later. But if the engine has to wait for its next batch,
        # the whole run needs more time.
        if num_actors is not None:
            run_in_background(num_actors)
        if live_count is not None:
            threading.Thread(target=self._load_early, args=(live_count,), daemon=True).start()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Embed the descriptions of a unit; return the unit with the vectors."""
        head, samples = unpack(batch)
        if samples.num_rows == 0:
            none = embedded(1, None if self._load_pending is None else 1).empty_table()
            return _with_tail(batch, pack(head, none))
        return _with_tail(batch, self._embed(*self._load(), head, samples))

    def _load_early(self, live_count: LiveCount) -> None:
        """Wait until an engine starts. Then load the models."""
        # If loading fails here, the call for the first unit loads the models again and reports the
        # error.
        with contextlib.suppress(RayError, SkytextError):
            while not live_count.has_begun():
                time.sleep(_POLL_S)
            self._load()

    def _load(self) -> tuple[Embedder, Embedder | None]:
        """Return the two models. Load them if they are not loaded."""
        with self._loading:
            if self._models is None:
                embedder = make_embedder(self._config, self._model)
                self._models = embedder, self._load_pending and self._load_pending()
            return self._models

    def _embed(
        self, embedder: Embedder, pending: Embedder | None, head: UnitHead, samples: pa.Table
    ) -> pa.Table:
        embeddings, lost = _embed_all(embedder, samples.column("captions").to_pylist())
        if any(lost):
            samples = _without_captions(samples, lost)
        captions = samples.column("captions").to_pylist()
        columns = {name: samples.column(name) for name in samples.column_names}
        columns["vectors"] = vector_lists(embeddings.vectors, captions, embedder.dim)
        columns["num_truncated_variants"] = pa.array(
            by_image(embeddings.truncated, captions), pa.int32()
        )
        made_by = self._lineage | {
            "embedding_device": embedder.info.device,
            "embedding_precision": embedder.info.precision,
        }
        for name, value in made_by.items():
            values = [None if variants is None else value for variants in captions]
            columns[name] = pa.array(values, pa.string())
        if pending is not None:
            columns[PENDING_VECTORS] = vectors_of(pending, captions)
        schema = embedded(embedder.dim, None if pending is None else pending.dim)
        ordered = [columns[name] for name in schema.names]
        return pack(head, pa.Table.from_arrays(ordered, schema=schema))


def _embed_all(embedder: Embedder, captions: list[Any]) -> tuple[Embeddings, list[bool]]:
    """Embed the variants of images.

    An image is *lost* if at least one of its variants has no finite vector.

    Returns:
        The vectors of all images that are not lost, and one flag per image. The flag is true if the
        image is lost.
    """
    texts = [document_text(Variant(**v)) for variants in captions for v in variants or ()]
    found = embedder.embed_documents(texts)
    lost = [bool(count) for count in by_image(~found.finite, captions)]
    kept = ~np.repeat(np.array(lost, np.bool_), [len(variants or ()) for variants in captions])
    return Embeddings(found.vectors[kept], found.truncated[kept]), lost


def vectors_of(embedder: Embedder, captions: list[Any]) -> pa.Array:
    """Embed the variants of images. Return one list of vectors per image.

    The list of an image is null if the image has no variants, or if a vector is not finite.
    """
    found, lost = _embed_all(embedder, captions)
    left = [None if is_lost else v for is_lost, v in zip(lost, captions, strict=True)]
    return vector_lists(found.vectors, left, embedder.dim)


def vector_lists(vectors: NDArray[np.float32], captions: list[Any], dim: int) -> pa.Array:
    """Convert vectors to an array of type list<fixed_size_list<float32, dim>>.

    The array has one entry per image. The entry is null if the image has no variants.
    """
    lengths = [len(variants) if variants else 0 for variants in captions]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1), pa.float32()), dim)
    missing = pa.array([variants is None for variants in captions], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets), flat, mask=missing)


def by_image(flags: NDArray[np.bool_], captions: list[Any]) -> list[int | None]:
    """Return for each image the number of its variants whose flag is true.

    The result has None for an image without variants.
    """
    counts: list[int | None] = []
    start = 0
    for variants in captions:
        if variants is None:
            counts.append(None)
            continue
        counts.append(int(flags[start : start + len(variants)].sum()))
        start += len(variants)
    return counts


def _without_captions(samples: pa.Table, lost: list[bool]) -> pa.Table:
    """Replace each row of a lost image by a failed row without captions; return all rows."""
    failure = failure_row(
        SampleError(Stage.EMBED, Reason.EMBEDDING_FAILED, "the model returned no finite vector")
    )
    no_captions = dict.fromkeys(("captions", "num_variants", "text")) | {
        "status": STATUS_FAILED,
        "failure": failure,
    }
    rows = [
        row | no_captions if is_lost else row
        for row, is_lost in zip(samples.to_pylist(), lost, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=samples.schema)


def _with_tail(batch: pa.Table, unit: pa.Table) -> pa.Table:
    """Add the columns of ``batch`` that ``unit`` does not have."""
    for name in batch.column_names:
        if name not in unit.column_names:
            unit = unit.append_column(name, batch.column(name))
    return unit
