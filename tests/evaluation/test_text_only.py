from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skytext.config.embedding import EmbedConfig
from skytext.errors import CallError
from skytext.evaluation.annotations import AnnotatedImage, Annotations, read_annotations
from skytext.evaluation.compared_setups import BEST_RULE, PAPER_RULE, Setup
from skytext.evaluation.evaluate import Embedders, evaluate_text_only
from skytext.evaluation.text_only import caption_vectors, text_only
from skytext.models.checkpoints import embed_model
from skytext.models.factory import make_embedder
from skytext.models.fakes.embedders import FakeEmbedder

# The mean recall with one, two and four texts per image, by the number of images. The first three
# values are with repeats removed. The last three values are with repeats kept.
EXPECTED = {452: [68.9, 79.9, 88.6, 70.2, 81.3, 89.8], 90: [79.4, 87.4, 92.7, 80.1, 88.1, 93.7]}
DATA = os.environ.get("SKYTEXT_TEST_DATA")
EMBED = FakeEmbedder().embed_queries


def annotated(*captions: list[str]) -> Annotations:
    images = [AnnotatedImage(f"{i}.jpg", tuple(texts)) for i, texts in enumerate(captions)]
    return Annotations(None, None, tuple(images))


def test_repeats_find_themselves_only_where_they_are_kept() -> None:
    made = annotated(["a river"] * 3, ["an airport", "ships in a harbour"])
    vectors = caption_vectors(made, EMBED)
    kept = text_only(made, vectors, distinct=False)
    assert (kept.num_images, len(kept.directions[PAPER_RULE].unit)) == (2, 5)
    assert kept.directions[PAPER_RULE].placings.hits(1)[[0, 2, 4]].tolist() == [1, 1, 1]
    removed = text_only(made, vectors, distinct=True)
    assert (removed.num_images, len(removed.directions[PAPER_RULE].unit)) == (1, 2)
    assert removed.directions[PAPER_RULE].unit.tolist() == [0, 0]


def test_the_first_texts_stand_for_an_image() -> None:
    made = annotated(["x", "a river", "x"], ["y", "dense forest", "planes"])
    vectors = caption_vectors(made, EMBED)
    one = text_only(made, vectors, distinct=False, num_variants=1)
    one = one.directions[PAPER_RULE].placings
    # If the first caption is the query, "a river" represents the first image. Otherwise "x"
    # represents the first image.
    assert one.hits(1)[4] == 1
    assert one.better[2] <= 1


def test_images_of_one_caption_alone_are_refused() -> None:
    made = annotated(["a river"], ["planes"])
    with pytest.raises(CallError, match="at least two captions"):
        text_only(made, caption_vectors(made, EMBED), distinct=True)
    # The error is raised before any model is loaded.
    for setup in (Setup(PAPER_RULE), Setup(PAPER_RULE, num_variants=1)):
        with pytest.raises(CallError, match=r"at least two captions$"):
            evaluate_text_only(made, {}, [setup])


def test_images_of_one_repeated_caption_are_refused() -> None:
    made = annotated(["a river", "a river"], ["planes", "planes"])
    with pytest.raises(CallError, match="at least two captions that differ"):
        evaluate_text_only(made, {None: Embedders(EMBED, EMBED)}, [Setup(PAPER_RULE)])


@pytest.mark.skipif(not DATA, reason="SKYTEXT_TEST_DATA names no folder of public annotations")
@pytest.mark.parametrize("num_images", [90, pytest.param(452, marks=pytest.mark.proof)])
def test_rsitmd_by_its_own_captions(num_images: int) -> None:
    """Test the packaged model. The larger number of images is the size of the test split."""
    read = read_annotations([Path(str(DATA), "rsitmd", "val_caps.txt")])
    picked = np.sort(np.random.default_rng(0).choice(len(read.images), num_images, replace=False))
    config = EmbedConfig(dtype="float32")
    embedder = make_embedder(config, embed_model(config))
    models = {
        None: Embedders(
            lambda texts: embedder.embed_documents(texts).vectors, embedder.embed_queries
        )
    }
    some = replace(read, images=tuple(read.images[i] for i in picked))
    result = evaluate_text_only(some, models, [Setup(PAPER_RULE)])
    found = [round(row.mean_recall, 1) for row in result.rows]
    assert found == pytest.approx(EXPECTED[num_images], abs=0.3)


@pytest.mark.proof
@pytest.mark.skipif(not DATA, reason="SKYTEXT_TEST_DATA names no folder of public annotations")
def test_the_ranking_of_searches_is_better_than_the_paper_s_on_sydney() -> None:
    """Measure a row of docs/background/ranking.md again."""
    read = read_annotations([Path(str(DATA), "sydney", "dataset_sydney.json")], "train")
    config = EmbedConfig()
    embedder = make_embedder(config, embed_model(config))
    models = {None: Embedders(embedder.embed_queries, embedder.embed_queries)}
    setups = [Setup(rule, num_variants=4) for rule in (PAPER_RULE, BEST_RULE)]
    paper, best = evaluate_text_only(read, models, setups).rows[:2]
    assert paper.mean_recall == pytest.approx(39.9, abs=0.5)
    assert best.mean_recall == pytest.approx(43.3, abs=0.5)
    assert best.difference is not None
    assert best.difference[1][0] > 1.5, "the lower end of the paired 95 % interval"
