"""Test that each setup changes only the part that it names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from skytext.captions.parsing import Variant, document_text, search_text
from skytext.evaluation.annotations import AnnotatedImage, Annotations
from skytext.evaluation.compared_setups import (
    BEST_RULE,
    PAPER_RULE,
    Rule,
    Setup,
    variant_text,
    words_of,
)
from skytext.evaluation.evaluate import Embedders, evaluate_benchmark, evaluate_text_only
from skytext.evaluation.gallery_texts import Described, make_gallery
from skytext.evaluation.recall import resampled
from skytext.models.fakes.embedders import FakeEmbedder

VARIANTS = (
    Variant("a river", "water in the north", "A long river between two fields."),
    Variant("a stream", "a bend", "A stream."),
)


class Recorded:
    """An embedder that records its texts."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, texts: Sequence[str]) -> Any:
        self.texts.extend(texts)
        return FakeEmbedder().embed_queries(texts)


def test_granularity_chooses_what_is_embedded_and_searched_by_words() -> None:
    assert variant_text(VARIANTS[0], "all") == document_text(VARIANTS[0])
    wanted = {
        "sentence": ("a river", "a river\n\na stream"),
        "feature": ("water in the north", "water in the north\n\na bend"),
        "paragraph": (
            "A long river between two fields.",
            "A long river between two fields.\n\nA stream.",
        ),
    }
    for granularity, (text, words) in wanted.items():
        assert variant_text(VARIANTS[0], granularity) == text  # type: ignore[arg-type]
        assert words_of(VARIANTS, granularity) == words  # type: ignore[arg-type]
    assert words_of(VARIANTS, "all") == search_text(VARIANTS)


def test_vectors_that_are_there_are_used_only_for_what_they_are_of() -> None:
    stored = np.eye(2, 16, dtype=np.float32)
    images = [Described("a.jpg", VARIANTS, stored)]
    embed = Recorded()
    assert make_gallery(images, embed).documents.vectors.tolist() == stored.tolist()
    one = make_gallery(images, embed, num_variants=1)
    assert one.documents.vectors.tolist() == stored[:1].tolist()
    assert one.texts == (search_text(VARIANTS[:1]),)
    assert embed.texts == []
    make_gallery(images, embed, granularity="sentence")
    assert embed.texts == ["a river", "a stream"]
    embed.texts.clear()
    make_gallery(images, embed, keep_vectors=False, num_variants=1)
    assert embed.texts == [document_text(VARIANTS[0])]


NAMES = ("river", "airport", "forest", "harbour", "bridge", "field")


def described() -> list[Described]:
    return [
        Described(f"{name}.jpg", (Variant(name, "x", f"y {name}"), Variant("z", name, "z")), None)
        for name in NAMES
    ]


ANNOTATIONS = Annotations(
    None, None, tuple(AnnotatedImage(f"{name}.jpg", (name, f"a {name}")) for name in NAMES)
)


def test_each_text_is_embedded_once_however_many_rules_ask() -> None:
    documents, queries = Recorded(), Recorded()
    rules = [Rule("dense", pooling) for pooling in ("max", "mean", "max+mean")]
    setups = [Setup(rule, num_variants=n) for rule in [*rules, BEST_RULE] for n in (1, 2)]
    found = evaluate_benchmark(
        described(), ANNOTATIONS, {None: Embedders(documents, queries)}, setups
    )
    assert len(found.rows) == 8
    assert len(queries.texts) == 12
    # The setups use one variant of each image, and then two variants. Each text is embedded once
    # for all rules.
    assert len(documents.texts) == 6 + 12


def test_words_find_what_vectors_do_not() -> None:
    def blind(texts: Sequence[str]) -> Any:
        return np.tile(np.eye(1, 4, dtype=np.float32), (len(texts), 1))

    setups = [Setup(PAPER_RULE), Setup(Rule("text")), Setup(BEST_RULE)]
    found = evaluate_benchmark(
        described(), ANNOTATIONS, {None: Embedders(blind, blind)}, setups
    ).rows
    assert found[0].recall["text_to_image"][0] == pytest.approx(100 / 6)
    for row in found[1:]:
        assert row.recall["text_to_image"][0] == 100
        assert row.recall["image_to_text"][0] == 100


def test_differences_are_paired() -> None:
    embed = Embedders(FakeEmbedder().embed_queries, FakeEmbedder().embed_queries)
    setups = [Setup(Rule("dense", "mean")), Setup(PAPER_RULE), Setup(Rule("dense", "mean"))]
    rows = evaluate_text_only(ANNOTATIONS, {None: embed}, setups[:2]).rows
    first, second = rows[0], rows[1]
    assert first.difference is None
    assert second.difference is not None
    less, (low, high) = second.difference
    assert less == pytest.approx(second.mean_recall - first.mean_recall)
    drawn = [resampled(list(row.directions.values()), "expected").mean(axis=1) for row in rows[:2]]
    assert (low, high) == pytest.approx(tuple(np.percentile(drawn[1] - drawn[0], [2.5, 97.5])))
    # If repeats are kept, the queries are different. Therefore these rows have their own first row.
    kept = next(row for row in rows if not row.setup["repeats_removed"])
    assert kept.difference is None


def test_another_embedder_embeds_queries_and_documents() -> None:
    own, other = (Recorded(), Recorded()), (Recorded(), Recorded())
    setups = [Setup(PAPER_RULE), Setup(PAPER_RULE, embedder="other")]
    models = {None: Embedders(*own), "other": Embedders(*other)}
    vectors = [np.eye(2, 16, dtype=np.float32)] * len(NAMES)
    images = [
        Described(one.image, one.variants, vector)
        for one, vector in zip(described(), vectors, strict=True)
    ]
    evaluate_benchmark(images, ANNOTATIONS, models, setups)
    assert len(own[0].texts) == 0
    assert len(other[0].texts) == 12
    assert own[1].texts == other[1].texts


def test_setups_have_names() -> None:
    assert str(Setup(PAPER_RULE)) == "dense, max"
    assert str(Setup(BEST_RULE, "sentence", 1, "m")) == (
        "hybrid, max+mean, floor 0.2; sentence; 1 variant; m"
    )
    assert str(Rule("hybrid", "max", "rrf", 1.0)) == "hybrid, max, rrf"
    assert Setup(Rule("text")).to_json()["pooling"] is None
