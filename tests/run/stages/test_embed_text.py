from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from skytext.captions.parsing import Variant, document_text
from skytext.config.embedding import EmbedConfig
from skytext.errors import ModelError
from skytext.models.checkpoints import embed_model
from skytext.models.fakes.embedders import FakeEmbedder
from skytext.models.fingerprints import embedding_fingerprint
from skytext.models.text_embedder import Embeddings
from skytext.run.stages import embed_text
from skytext.run.stages.caption_images import ENGINE_COLUMN
from skytext.run.stages.embed_text import EmbedUnits
from skytext.run.units import pack, unpack
from skytext.table.schema import embedded
from tests.run.stages.samples import (
    HEAD,
    bad,
    caption,
    embedder,
    good,
    rows_of,
    unit,
)

LINEAGE = ("fingerprint", "model", "model_revision", "device", "precision")


def test_every_variant_has_its_own_vector_in_its_place() -> None:
    # Answers are dropped and images fail, so that rows have different numbers of variants.
    described = caption(unit([*good(12), bad(), *good(12, 50)]), "fake:fail=0.2,empty=0.4")
    head, samples = unpack(embedder()(described))
    assert head == HEAD
    assert samples.schema.equals(embedded(16))
    judge = FakeEmbedder()
    rows = samples.to_pylist()
    assert len({row["num_variants"] for row in rows}) > 2
    for row in rows:
        if row["captions"] is None:
            continue
        assert len(row["vectors"]) == row["num_variants"] == len(row["captions"])
        texts = [document_text(Variant(**variant)) for variant in row["captions"]]
        assert row["vectors"] == pytest.approx(judge.embed_documents(texts).vectors)
        assert np.linalg.norm(row["vectors"], axis=1) == pytest.approx(1.0, abs=1e-6)


def test_failed_rows_have_no_vectors_and_no_lineage() -> None:
    good_one, failed = rows_of(embedder()(caption(unit([*good(1), bad()]))))
    assert failed["status"] == "failed"
    assert (failed["vectors"], failed["num_truncated_variants"]) == (None, None)
    assert [failed[f"embedding_{name}"] for name in LINEAGE] == [None] * 5
    model = embed_model(EmbedConfig(model="fake"))
    assert [good_one[f"embedding_{name}"] for name in LINEAGE] == [
        embedding_fingerprint(model),
        "fake",
        "fake-1",
        "cpu",
        "float32",
    ]


def test_a_unit_of_failures_keeps_the_type_of_its_vectors() -> None:
    _, samples = unpack(embedder()(caption(unit([bad("a"), bad("b")]))))
    assert samples.schema.equals(embedded(16))
    assert samples.column("vectors").to_pylist() == [None, None]


def test_an_empty_unit_loads_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("skytext.run.stages.embed_text.make_embedder", refuse)
    head, samples = unpack(embedder()(caption(unit([]))))
    assert (head, samples.num_rows) == (HEAD, 0)


def test_the_engine_clock_is_passed_on() -> None:
    described = caption(unit(good(1)))
    for batch in (described, caption(unit([]))):
        out = embedder()(batch)
        assert out.column(ENGINE_COLUMN).to_pylist() == batch.column(ENGINE_COLUMN).to_pylist()
    assert json.loads(described.column(ENGINE_COLUMN)[0].as_py())["engine"]


def test_truncated_texts_are_counted() -> None:
    _, samples = unpack(caption(unit(good(3))))
    rows: list[dict[str, Any]] = samples.to_pylist()
    for variant in rows[1]["captions"][:2]:
        variant["caption"] = "word " * 300
    batch = pack(HEAD, pa.Table.from_pylist(rows, schema=samples.schema))
    counts = [row["num_truncated_variants"] for row in rows_of(embedder()(batch))]
    assert counts == [0, 2, 0]


class Broken:
    """A fake embedder that returns NaN for texts with a certain word."""

    def __init__(self, word: str) -> None:
        self.inner = FakeEmbedder()
        self.info, self.dim = self.inner.info, self.inner.dim
        self.word = word
        self.num_embedded = 0

    def embed_documents(self, texts: Sequence[str]) -> Embeddings:
        found = self.inner.embed_documents(texts)
        self.num_embedded += len(texts)
        broken = np.array([self.word in text for text in texts])
        return Embeddings(np.where(broken[:, None], np.nan, found.vectors), found.truncated)


def test_an_image_with_a_vector_that_is_not_finite_fails_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, samples = unpack(caption(unit(good(3))))
    rows: list[dict[str, Any]] = samples.to_pylist()
    num_variants = sum(row["num_variants"] for row in rows)
    rows[1]["captions"][2]["caption"] = "zzz"
    batch = pack(HEAD, pa.Table.from_pylist(rows, schema=samples.schema))
    undisturbed = rows_of(embedder()(batch))
    model = Broken("zzz")
    monkeypatch.setattr("skytext.run.stages.embed_text.make_embedder", lambda *_: model)
    _, embedded_samples = unpack(embedder()(batch))
    assert embedded_samples.schema.equals(embedded(16))
    found = embedded_samples.to_pylist()
    assert [row["status"] for row in found] == ["ok", "failed", "ok"]
    failed = found[1]
    assert (failed["failure"]["stage"], failed["failure"]["reason"]) == (
        "embed",
        "embedding_failed",
    )
    gone = ("captions", "text", "num_variants", "vectors", "num_truncated_variants")
    assert [failed[name] for name in gone] == [None] * len(gone)
    assert [found[0], found[2]] == [undisturbed[0], undisturbed[2]]
    assert model.num_embedded == num_variants


class Count:
    """A `LiveCount` that reports whether an engine has started."""

    def __init__(self) -> None:
        self.begun = threading.Event()

    def has_begun(self) -> bool:
        return self.begun.is_set()


def test_models_are_loaded_when_an_engine_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed_text, "_POLL_S", 0.01)
    loaded, number = threading.Event(), 0

    def load(*_: object) -> FakeEmbedder:
        nonlocal number
        number += 1
        loaded.set()
        return FakeEmbedder()

    monkeypatch.setattr(embed_text, "make_embedder", load)
    count, config = Count(), EmbedConfig(model="fake")
    embed = EmbedUnits(config, embed_model(config), live_count=count)  # type: ignore[arg-type]
    assert not loaded.wait(0.1)
    count.begun.set()
    assert loaded.wait(10)
    (row,) = rows_of(embed(caption(unit(good(1)))))
    assert row["vectors"] is not None
    assert number == 1


def test_a_model_that_cannot_be_loaded_early_fails_the_first_unit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embed_text, "_POLL_S", 0.01)
    tried = threading.Event()

    def refuse(*_: object) -> None:
        tried.set()
        raise ModelError("no such model")

    monkeypatch.setattr(embed_text, "make_embedder", refuse)
    count, config = Count(), EmbedConfig(model="fake")
    count.begun.set()
    embed = EmbedUnits(config, embed_model(config), live_count=count)  # type: ignore[arg-type]
    assert tried.wait(10)
    with pytest.raises(ModelError, match="no such model"):
        embed(caption(unit(good(1))))
