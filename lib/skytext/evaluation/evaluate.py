"""Measure how well searches find images, with annotations or with your own queries."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np

from skytext.errors import CallError
from skytext.evaluation.annotations import Annotations, Query, file_name
from skytext.evaluation.compared_setups import (
    BEST_RULE,
    PAPER_RULE,
    Granularity,
    Rule,
    Setup,
)
from skytext.evaluation.gallery_ranks import WordScores, place_captions, place_images
from skytext.evaluation.gallery_texts import (
    Described,
    Embed,
    Gallery,
    embed_once,
    make_gallery,
    select_images,
)
from skytext.evaluation.image_baseline import ImageModel, found_by_images
from skytext.evaluation.recall import Direction, Floats, Indices, Ties
from skytext.evaluation.recall_intervals import Found, measure
from skytext.evaluation.report import Evaluation
from skytext.evaluation.text_only import TOO_FEW, caption_vectors, text_only

SETUPS = (Setup(PAPER_RULE), Setup(BEST_RULE))
"""The default setups.

The first setup uses the rule of the paper. The second setup uses the default rule of searches.
"""


class Embedders(NamedTuple):
    """The functions of an embedding model that embed documents and queries."""

    documents: Embed
    queries: Embed


Models = Mapping[str | None, Embedders]
"""The embedding models, by the name in `Setup.embedder`.

The model with the key None is the model that embedded the descriptions.
"""


def evaluate_benchmark(
    images: Iterable[Described],
    annotations: Annotations,
    models: Models,
    setups: Sequence[Setup] = SETUPS,
    *,
    ties: Ties = "expected",
    allow_missing: bool = False,
    image_model: ImageModel | None = None,
) -> Evaluation:
    """Measure text to image and image to text on a benchmark.

    Only the images of the benchmark are searched.

    Args:
        images: the described images.
        annotations: the benchmark.
        models: the embedding model for each ``embedder`` in ``setups``.
        setups: the setups to measure. The result has one row for each setup.
        ties: how ties are counted.
        allow_missing: if true, annotated images that have no description are ignored, together with
            their captions. If false, such an image is an error.
        image_model: the model of the image vectors. If it is given, the image vectors are also
            measured, alone and in combination with the descriptions. All images must then have an
            image vector. If None, image vectors are not measured.

    Raises:
        CallError: an annotated image has no description and ``allow_missing`` is false, no
            annotated image has a description, or two annotated images have the same file name.
    """
    wanted = [image.name for image in annotations.images]
    selected = select_images(images, wanted, only_expected=True)
    galleries = _Galleries(selected, models)
    names = galleries.names
    missing = _missing(wanted, names, allow_missing)
    captions, owner = _captions(annotations, names, missing)
    to_find = list(owner.reshape(-1, 1))
    ends = np.cumsum(np.bincount(owner, minlength=len(names)))
    captions_of_image = np.split(np.argsort(owner, kind="stable"), ends[:-1])
    found = [_both_ways(galleries, captions, owner, captions_of_image, setup) for setup in setups]
    if image_model is not None:
        found += found_by_images(
            image_model,
            [image.own_vector for image in selected],
            galleries.of(setups[0]).documents,
            captions,
            galleries.queries(captions, setups[0]),
            to_find,
            captions_of_image,
        )
    return Evaluation(
        what="captions of the benchmark search its images, and images search the captions",
        benchmark=annotations.benchmark,
        split=annotations.split,
        num_images=len(names),
        num_queries=len(captions),
        num_missing=len(missing),
        num_empty_captions=annotations.num_empty_captions,
        ties=ties,
        rows=measure(found, ties),
    )


def _captions(
    annotations: Annotations, names: Sequence[str], missing: Collection[str]
) -> tuple[list[str], Indices]:
    """Return the captions of all images that are not missing.

    Also return, for each caption, the index of its image.
    """
    place_of = {name: i for i, name in enumerate(names)}
    owned = [
        (caption, place_of[image.name])
        for image in annotations.images
        if image.name not in missing
        for caption in image.captions
    ]
    return [caption for caption, _ in owned], np.array([i for _, i in owned], dtype=np.intp)


def _both_ways(
    galleries: _Galleries,
    captions: Sequence[str],
    owner: Indices,
    captions_of_image: Sequence[Indices],
    setup: Setup,
) -> Found:
    gallery, vectors = galleries.of(setup), galleries.queries(captions, setup)
    caption_words, image_words = (
        galleries.words(captions, setup),
        galleries.reversed_words(captions, setup),
    )
    to_find = list(owner.reshape(-1, 1))
    to_image = place_images(vectors, gallery.documents, to_find, setup.rule, caption_words)
    to_text = place_captions(gallery.documents, vectors, captions_of_image, setup.rule, image_words)
    directions = {
        "image_to_text": Direction(to_text, np.arange(len(captions_of_image))),
        "text_to_image": Direction(to_image, owner),
    }
    return Found(f"skytext: {setup}", setup.to_json(), directions)


def evaluate_queries(
    images: Iterable[Described],
    queries: Sequence[Query],
    models: Models,
    setups: Sequence[Setup] = SETUPS,
    *,
    ties: Ties = "expected",
    allow_missing: bool = False,
    image_model: ImageModel | None = None,
) -> Evaluation:
    """Measure how well the search answers your own queries.

    All images are searched. A result is correct if it is one of the images that the query expects.

    All arguments except ``queries`` are the same as for `evaluate_benchmark`.

    Raises:
        CallError: an expected image has no description and ``allow_missing`` is false, no expected
            image has a description, or two expected images have the same file name.
    """
    wanted = list(dict.fromkeys(name for query in queries for name in query.images))
    selected = select_images(images, wanted, only_expected=False)
    galleries = _Galleries(selected, models)
    missing = _missing(wanted, galleries.names, allow_missing)
    place_of = {name: i for i, name in enumerate(galleries.names)}
    caption_words = [query for query in queries if not missing.issuperset(query.images)]
    texts = [query.text for query in caption_words]
    relevant = [
        np.array([place_of[name] for name in query.images if name not in missing])
        for query in caption_words
    ]
    found = []
    for setup in setups:
        placings = place_images(
            galleries.queries(texts, setup),
            galleries.of(setup).documents,
            relevant,
            setup.rule,
            galleries.words(texts, setup),
        )
        direction = Direction(placings, np.arange(len(caption_words)))
        found.append(Found(f"skytext: {setup}", setup.to_json(), {"text_to_image": direction}))
    if image_model is not None:
        found += found_by_images(
            image_model,
            [image.own_vector for image in selected],
            galleries.of(setups[0]).documents,
            texts,
            galleries.queries(texts, setups[0]),
            relevant,
            None,
        )
    return Evaluation(
        what="own queries search all images",
        benchmark=None,
        split=None,
        num_images=len(galleries.names),
        num_queries=len(caption_words),
        num_missing=len(missing),
        num_empty_captions=0,
        ties=ties,
        rows=measure(found, ties),
        queries=tuple(caption_words),
    )


def evaluate_text_only(
    annotations: Annotations,
    models: Models,
    setups: Sequence[Setup] = SETUPS,
    *,
    ties: Ties = "expected",
) -> Evaluation:
    """Use captions as queries and as the texts of images.

    Recall is measured with repeated captions and without repeated captions.

    If a setup does not set the number of variants, the setup is measured with one, two and all
    variants.

    Raises:
        CallError: no image has two captions.
    """
    most = max(len(image.captions) for image in annotations.images) - 1
    if most < 1:
        raise CallError(TOO_FEW)
    full = [
        replace(setup, num_variants=count)
        for setup in setups
        for count in _counts(setup.num_variants, most)
    ]
    full = sorted(dict.fromkeys(full), key=lambda setup: setup.num_variants or 0)
    groups: dict[tuple[int | None, str | None], list[Rule]] = {}
    for setup in full:
        groups.setdefault((setup.num_variants, setup.embedder), []).append(setup.rule)
    vectors = {name: caption_vectors(annotations, models[name].queries) for _, name in groups}
    found = []
    for distinct in (True, False):
        results = {
            (count, name): text_only(
                annotations, vectors[name], distinct=distinct, num_variants=count, rules=rules
            )
            for (count, name), rules in groups.items()
        }
        for setup in full:
            result = results[setup.num_variants, setup.embedder]
            direction = result.directions[setup.rule]
            regime = "repeats removed" if distinct else "repeats kept"
            count = setup.num_variants
            texts = "1 text per image" if count == 1 else f"up to {count} texts per image"
            by = str(replace(setup, num_variants=None))
            name = f"{regime} ({result.num_images:,} images), {texts}; {by}"
            more = {"repeats_removed": distinct, "num_images": result.num_images}
            found.append(Found(name, setup.to_json() | more, {"text_to_image": direction}))
    return Evaluation(
        what="text only: each caption is a query once, and the other captions represent the images",
        benchmark=annotations.benchmark,
        split=annotations.split,
        num_images=len(annotations.images),
        num_queries=annotations.num_captions,
        num_missing=0,
        num_empty_captions=annotations.num_empty_captions,
        ties=ties,
        rows=measure(found, ties),
        is_text_only=True,
    )


def _counts(caption_words: int | None, most: int) -> list[int]:
    return (
        [min(caption_words, most)]
        if caption_words is not None
        else sorted({1, 2, most} & set(range(1, most + 1)))
    )


class _Galleries:
    """The galleries of several setups. A gallery that several setups use is made only once.

    Args:
        images: the images, in the order of the galleries.
        models: the embedding model for each ``embedder`` in the setups.
    """

    def __init__(self, images: Sequence[Described], models: Models) -> None:
        self.names = [file_name(image.image) for image in images]
        self._models = models
        self._make = cache(lambda *which: self._gallery(images, *which))
        self._embed = cache(lambda texts, name: embed_once(texts, models[name].queries))
        self._words = cache(lambda of, queries: WordScores(of, queries))

    def of(self, setup: Setup) -> Gallery:
        """Return the gallery of a setup."""
        return self._make(setup.granularity, setup.num_variants, setup.embedder)

    def queries(self, texts: Sequence[str], setup: Setup) -> Floats:
        """Return the vectors of queries."""
        return self._embed(tuple(texts), setup.embedder)

    def words(self, texts: Sequence[str], setup: Setup) -> WordScores:
        """Return the word scores of the images for query texts."""
        return self._words(self.of(setup).texts, tuple(texts))

    def reversed_words(self, texts: Sequence[str], setup: Setup) -> WordScores:
        """Return the word scores of texts, where the texts of the images are the queries."""
        return self._words(tuple(texts), self.of(setup).texts)

    def _gallery(
        self,
        images: Sequence[Described],
        granularity: Granularity,
        num_variants: int | None,
        embedder: str | None,
    ) -> Gallery:
        return make_gallery(
            images,
            self._models[embedder].documents,
            granularity=granularity,
            num_variants=num_variants,
            keep_vectors=embedder is None,
        )


def _missing(wanted: Collection[str], names: Collection[str], allowed: bool) -> set[str]:
    missing = set(wanted) - set(names)
    if missing and not allowed:
        some = ", ".join(sorted(missing)[:3])
        raise CallError(
            f"{len(missing):,} of {len(wanted):,} annotated images are missing or have failed "
            f"({some}{', …' if len(missing) > 3 else ''}). To ignore these images, add "
            "--allow-missing"
        )
    return missing
