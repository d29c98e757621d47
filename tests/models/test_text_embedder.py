"""Test the real sentence embedder of the PyPI package. It is loaded once, without a hub."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skytext.captions.parsing import Variant, document_text
from skytext.config.embedding import EmbedConfig
from skytext.errors import ModelError
from skytext.models.checkpoints import ModelIdentity, embed_model
from skytext.models.factory import make_embedder
from skytext.models.text_embedder import Embedder, SentenceEmbedder

DOCUMENTS = [
    document_text(Variant(*texts))
    for texts in (
        ("A river winds through farmland.", "A brown river; green fields.", "Fields line a river."),
        ("Planes stand at an airport.", "A long runway; white aircraft.", "Aircraft at terminals."),
        ("Oil storage tanks at a refinery.", "Round white tanks.", "Tanks in rows at a plant."),
        ("A snow-covered mountain range.", "White peaks; grey rock.", "Snow lies on the ridges."),
        ("A dense residential area.", "Small houses; a grid of streets.", "Houses with gardens."),
    )
]


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    config = EmbedConfig(dtype="float32", batch_size=2)
    return make_embedder(config, embed_model(config))


def test_documents_become_unit_vectors(embedder: Embedder) -> None:
    found = embedder.embed_documents(DOCUMENTS)
    assert found.vectors.dtype == np.float32
    assert found.vectors.shape == (5, 384)
    assert embedder.dim == 384
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-6)
    assert found.truncated.dtype == np.bool_
    assert found.truncated.tolist() == [False] * 5


@pytest.mark.parametrize("texts", [["a river"], ["a river"] * 5, [""], ["x", "ü ✈ 河"]])
def test_queries_become_unit_vectors(embedder: Embedder, texts: list[str]) -> None:
    found = embedder.embed_queries(texts)
    assert found.dtype == np.float32
    assert found.shape == (len(texts), 384)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_no_texts_give_an_empty_array_with_the_right_dimension(embedder: Embedder) -> None:
    documents = embedder.embed_documents([])
    for found in (documents.vectors, embedder.embed_queries([])):
        assert found.shape == (0, 384)
        assert found.dtype == np.float32
    assert documents.truncated.shape == (0,)
    assert documents.truncated.dtype == np.bool_


def test_vectors_do_not_depend_on_their_batch(embedder: Embedder) -> None:
    together = embedder.embed_documents(DOCUMENTS).vectors
    alone = np.concatenate([embedder.embed_documents([text]).vectors for text in DOCUMENTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize(
    ("query", "best"),
    [
        ("water flowing between fields", 0),
        ("where aeroplanes land", 1),
        ("petroleum tank farm", 2),
        ("icy summits", 3),
        ("suburb with family homes", 4),
    ],
)
def test_a_query_is_nearest_to_the_document_that_fits(
    embedder: Embedder, query: str, best: int
) -> None:
    vectors = embedder.embed_documents(DOCUMENTS).vectors
    assert int(np.argmax(vectors @ embedder.embed_queries([query])[0])) == best


def test_texts_over_the_token_limit_are_flagged(embedder: Embedder) -> None:
    words = ["river"] * 2000
    texts = [" ".join(words[:n]) for n in (1, 254, 255, 2000)]
    found = embedder.embed_documents(texts)
    # The limit is 256 tokens, including two special tokens of the model.
    assert found.truncated.tolist() == [False, False, True, True]
    np.testing.assert_allclose(found.vectors[2], found.vectors[3], atol=1e-5)


def test_the_configured_precision_is_recorded(embedder: Embedder) -> None:
    assert embedder.info.device == "cpu"
    assert embedder.info.precision == "float32"


def test_auto_takes_what_the_device_computes_natively(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": True})
    half = SentenceEmbedder(EmbedConfig(), embed_model(EmbedConfig()))
    assert half.info.precision == "bfloat16"
    vectors = half.embed_documents(DOCUMENTS).vectors
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    cosines = (vectors * embedder.embed_documents(DOCUMENTS).vectors).sum(axis=1)
    assert cosines.min() > 0.99


def test_auto_is_float32_where_bfloat16_is_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx2": True})
    plain = SentenceEmbedder(EmbedConfig(), embed_model(EmbedConfig()))
    assert plain.info.precision == "float32"


@pytest.mark.parametrize(
    "files",
    [
        {"config.json": "{"},
        {"config.json": "{}"},
        {"config.json": '{"model_type": "bert"}'},
        {"config.json": '{"model_type": "nosuch"}'},
        {"modules.json": "[]"},
        {"modules.json": "{}"},
        {"modules.json": "3"},
        {"modules.json": "null"},
        {"modules.json": '{"a": 1}'},
        {"modules.json": "[3]"},
        {"modules.json": "[{}]"},
        {"modules.json": "{"},
    ],
    ids=str,
)
def test_a_folder_without_a_model_is_reported(tmp_path: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    model = ModelIdentity("mine", str(tmp_path), "0" * 64, is_local=True)
    with pytest.raises(ModelError, match="cannot load the embedding model 'mine'") as caught:
        SentenceEmbedder(EmbedConfig(model="mine"), model)
    assert "\n" not in str(caught.value)
