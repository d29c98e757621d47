"""Embed the variants of a unit: one sentence-transformers model per actor.

INPUT    units of `skytext.table.schema.CAPTIONED` rows.
OUTPUT   units of `skytext.table.schema.embedded` rows: ``vectors[i]`` belongs to ``captions[i]``.
FAN-OUT  one unit to one unit.
ON ERROR a model that cannot load ends the job. Failed rows pass with null vectors. An image becomes
         a failed row if the model returns a vector that is not finite for any of its variants.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from skytext.captions.parsing import Variant, document_text
from skytext.config.embedding import EmbedConfig
from skytext.errors import Reason, SampleError, Stage
from skytext.models.checkpoints import ModelIdentity
from skytext.models.factory import make_embedder
from skytext.models.fingerprints import embedding_fingerprint
from skytext.models.text_embedder import Embedder, Embeddings
from skytext.run.units import UnitHead, failure_row, pack, unpack
from skytext.table.schema import STATUS_FAILED, embedded

_NICENESS = 19


class EmbedUnits:
    """One embedding model. It loads with the first unit that has rows.

    Args:
        config: the embedding settings.
        model: the model.
    """

    def __init__(self, config: EmbedConfig, model: ModelIdentity) -> None:
        self._config = config
        self._model = model
        self._lineage = {
            "embedding_fingerprint": embedding_fingerprint(model),
            "embedding_model": model.name,
            "embedding_model_revision": model.revision,
        }
        self._embedder: Embedder | None = None
        # On few CPU cores the engine has priority: an embedder can catch up later, but an engine
        # without its next batch loses time.
        if ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None:
            os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return the unit with its descriptions embedded."""
        head, samples = unpack(batch)
        if samples.num_rows == 0:
            return _with_tail(batch, pack(head, embedded(1).empty_table()))
        if self._embedder is None:
            self._embedder = make_embedder(self._config, self._model)
        return _with_tail(batch, self._embed(self._embedder, head, samples))

    def _embed(self, embedder: Embedder, head: UnitHead, samples: pa.Table) -> pa.Table:
        captions = samples.column("captions").to_pylist()
        texts = [document_text(Variant(**v)) for variants in captions for v in variants or ()]
        embeddings = embedder.embed_documents(texts)
        if not embeddings.finite.all():
            lost = [bool(count) for count in by_image(~embeddings.finite, captions)]
            samples = _without_captions(samples, lost)
            kept = ~np.repeat(lost, [len(variants or ()) for variants in captions])
            embeddings = Embeddings(embeddings.vectors[kept], embeddings.truncated[kept])
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
        schema = embedded(embedder.dim)
        ordered = [columns[name] for name in schema.names]
        return pack(head, pa.Table.from_arrays(ordered, schema=schema))


def vector_lists(vectors: NDArray[np.float32], captions: list[Any], dim: int) -> pa.Array:
    """Return list<fixed_size_list<float32, dim>>, one list per image, null without vectors."""
    lengths = [len(variants) if variants else 0 for variants in captions]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1), pa.float32()), dim)
    missing = pa.array([variants is None for variants in captions], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets), flat, mask=missing)


def by_image(flags: NDArray[np.bool_], captions: list[Any]) -> list[int | None]:
    """Return how many variants of each image have a flag; None without variants."""
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
    """Return the rows; those with a lost vector become failed rows without captions."""
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
    """Pass on the columns beside the unit's own."""
    for name in batch.column_names:
        if name not in unit.column_names:
            unit = unit.append_column(name, batch.column(name))
    return unit
