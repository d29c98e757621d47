from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from skytext.captions.parsing import Variant
from skytext.errors import CallError
from skytext.evaluation.annotations import AnnotatedImage, Annotations, Query
from skytext.evaluation.compared_setups import Setup
from skytext.evaluation.evaluate import Embedders, evaluate_benchmark, evaluate_queries
from skytext.evaluation.gallery_texts import Described
from skytext.evaluation.image_baseline import ImageModel
from skytext.models.fakes.embedders import FakeEmbedder
from skytext.search.fusion import fuse
from tests.table.rows import unit_vectors

NUM_IMAGES, CAPTIONS_EACH, DIM = 40, 3, 6
NAMES = [f"{i:02d}.jpg" for i in range(NUM_IMAGES)]
FAKE = FakeEmbedder(32)
MODELS = {None: Embedders(lambda t: FAKE.embed_documents(t).vectors, FAKE.embed_queries)}
OWN = unit_vectors(np.random.default_rng(1), (NUM_IMAGES, DIM))


def words(image: int, i: int) -> str:
    """Return a caption that shares words with other captions, so that no model is perfect."""
    return f"scene {image % 7} field {(image + i) % 5} road {i} lot {image // 8}"


def described(own: Any = OWN) -> list[Described]:
    return [
        Described(
            f"val/{name}",
            tuple(Variant(f"{words(n, i)} x", "f", "c") for i in range(2)),
            None,
            own_vector=own[n],
        )
        for n, name in enumerate(NAMES)
    ]


CAPTIONS = [[words(n, i) for i in range(CAPTIONS_EACH)] for n in range(NUM_IMAGES)]
ANNOTATIONS = Annotations(
    benchmark=None,
    split=None,
    images=tuple(
        AnnotatedImage(name, tuple(texts)) for name, texts in zip(NAMES, CAPTIONS, strict=True)
    ),
)


def clip_text(texts: Any) -> Any:
    """Return the vector of the image of each text, plus noise that depends on the text."""
    vectors = []
    for text in texts:
        rng = np.random.default_rng(sum(text.encode()))
        owners = [n for n, own in enumerate(CAPTIONS) if text in own]
        vectors.append(OWN[owners[0]] + rng.normal(scale=0.4, size=DIM))
    found = np.array(vectors)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


MODEL = ImageModel("some/clip", clip_text)


def first_hits(scores: Any, right: list[list[int]]) -> list[float]:
    """Return R@1, R@5 and R@10 in percent. The scores that decide the ranks must have no ties."""
    best = [
        min(int((row > row[i] + 1e-6).sum()) for i in own)
        for row, own in zip(scores, right, strict=True)
    ]
    return [100 * float(np.mean([place < k for place in best])) for k in (1, 5, 10)]


def test_the_baseline_is_measured_as_the_field_measures_clip() -> None:
    found = evaluate_benchmark(
        described(), ANNOTATIONS, MODELS, [Setup()], ties="sort", image_model=MODEL
    )
    assert [row.name for row in found.rows] == [
        "skytext: dense, max",
        "images alone: some/clip",
        "images and descriptions: some/clip; rrf",
    ]
    alone = found.rows[1]
    texts = [text for own in CAPTIONS for text in own]
    scores = clip_text(texts) @ OWN.T
    to_find = [[n] for n in range(NUM_IMAGES) for _ in range(CAPTIONS_EACH)]
    own = [list(range(3 * n, 3 * n + 3)) for n in range(NUM_IMAGES)]
    assert alone.recall["text_to_image"] == pytest.approx(first_hits(scores, to_find))
    assert alone.recall["image_to_text"] == pytest.approx(first_hits(scores.T, own))
    assert 10 < alone.mean_recall < 90
    # Each difference is to the first row, for the same queries and the same images.
    assert all(row.difference is not None for row in found.rows[1:])


def test_fused_ranks_are_those_of_all_images_and_captions() -> None:
    found = evaluate_benchmark(described(), ANNOTATIONS, MODELS, [Setup()], image_model=MODEL)
    fused = found.rows[2]
    texts = [text for own in CAPTIONS for text in own]
    documents = FAKE.embed_documents(
        [
            f"ONE_SENTENCE: {words(n, i)} x\nFEATURE: f\nCAPTION: c"
            for n in range(40)
            for i in (0, 1)
        ]
    ).vectors.reshape(NUM_IMAGES, 2, -1)
    dense = (FAKE.embed_queries(texts) @ documents.transpose(0, 2, 1)).max(axis=2).T
    clip = clip_text(texts) @ OWN.T
    to_find = [[n] for n in range(NUM_IMAGES) for _ in range(CAPTIONS_EACH)]
    own = [list(range(3 * n, 3 * n + 3)) for n in range(NUM_IMAGES)]
    t2i = first_hits(fuse([clip, dense], "rrf"), to_find)
    i2t = first_hits(fuse([clip.T, dense.T], "rrf"), own)
    assert fused.recall["text_to_image"] == pytest.approx(t2i, abs=2)
    assert fused.recall["image_to_text"] == pytest.approx(i2t, abs=2)
    # Neither ranking alone gives these figures.
    assert fused.recall["text_to_image"] != pytest.approx(first_hits(clip, to_find), abs=2)
    assert fused.recall["text_to_image"] != pytest.approx(first_hits(dense, to_find), abs=2)
    assert fused.setup["mode"] == "image+dense"


def test_own_queries_search_by_images_too() -> None:
    own = [Query(words(n, 0), (NAMES[n],)) for n in range(0, NUM_IMAGES, 9)]
    found = evaluate_queries(described(), own, MODELS, [Setup()], image_model=MODEL)
    assert [set(row.recall) for row in found.rows] == [{"text_to_image"}] * 3
    assert found.rows[1].recall["text_to_image"][2] > 50
    assert found.to_json()["results"][1]["setup"]["mode"] == "image"
    assert "| images alone: some/clip | zero-shot |" in found.markdown()


@pytest.mark.parametrize(
    "measure",
    [
        lambda images: evaluate_benchmark(images, ANNOTATIONS, MODELS, image_model=MODEL),
        lambda images: evaluate_queries(
            images, [Query("a", (NAMES[0],))], MODELS, image_model=MODEL
        ),
    ],
)
def test_an_image_without_a_vector_is_refused(measure: Callable[[Any], Any]) -> None:
    vectors: list[Any] = [*OWN[:-2], None, None]
    with pytest.raises(
        CallError, match=r"2 of 40 images have no image vector: .* run: skytext emb"
    ):
        measure(described(vectors))
