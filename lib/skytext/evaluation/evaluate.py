"""Score a gallery of described images by annotations or by one's own queries."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from skytext.errors import CallError
from skytext.evaluation.annotations import Annotations, Query
from skytext.evaluation.recall import Direction, Indices, Ties, place_captions, place_images
from skytext.evaluation.report import Evaluation, measured
from skytext.evaluation.text_only import caption_vectors, text_only
from skytext.evaluation.texts import Described, Embed, Gallery, embed_once, make_gallery


def evaluate_benchmark(
    images: Iterable[Described],
    annotations: Annotations,
    embed_documents: Embed,
    embed_queries: Embed,
    *,
    ties: Ties = "expected",
    allow_missing: bool = False,
) -> Evaluation:
    """Measure both directions on a benchmark; only its own images are searched.

    Args:
        images: what is described.
        annotations: the benchmark.
        embed_documents: embeds descriptions that come without vectors.
        embed_queries: embeds captions.
        ties: what counts.
        allow_missing: leave annotated images that are not described out, with their captions.

    Raises:
        CallError: missing or ambiguous images.
    """
    wanted = [image.name for image in annotations.images]
    gallery = make_gallery(images, wanted, embed_documents, only_expected=True)
    missing = _missing(wanted, gallery, allow_missing)
    place_of = {name: i for i, name in enumerate(gallery.names)}
    captions: list[str] = []
    owners: list[int] = []
    own: list[list[int]] = [[] for _ in gallery.names]
    for image in annotations.images:
        if image.name in missing:
            continue
        for caption in image.captions:
            own[place_of[image.name]].append(len(captions))
            owners.append(place_of[image.name])
            captions.append(caption)
    vectors = embed_once(captions, embed_queries)
    owner: Indices = np.array(owners, dtype=np.intp)
    to_image = place_images(vectors, gallery.vectors, gallery.offsets, list(owner.reshape(-1, 1)))
    to_text = place_captions(
        gallery.vectors, gallery.offsets, vectors, [np.array(rows) for rows in own]
    )
    return Evaluation(
        what="captions of the benchmark search its images, and the other way round",
        benchmark=annotations.benchmark,
        split=annotations.split,
        num_images=len(gallery.names),
        num_queries=len(captions),
        num_missing=len(missing),
        num_empty_captions=annotations.num_empty_captions,
        ties=ties,
        rows=(
            measured(
                "skytext",
                {
                    "image_to_text": Direction(to_text, np.arange(len(own))),
                    "text_to_image": Direction(to_image, owner),
                },
                ties,
            ),
        ),
    )


def evaluate_queries(
    images: Iterable[Described],
    queries: Sequence[Query],
    embed_documents: Embed,
    embed_queries: Embed,
    *,
    ties: Ties = "expected",
    allow_missing: bool = False,
) -> Evaluation:
    """Measure one's own queries; all images are searched, any expected one is a hit.

    Raises:
        CallError: missing or ambiguous images.
    """
    wanted = list(dict.fromkeys(name for query in queries for name in query.images))
    gallery = make_gallery(images, wanted, embed_documents, only_expected=False)
    missing = _missing(wanted, gallery, allow_missing)
    place_of = {name: i for i, name in enumerate(gallery.names)}
    asked = [query for query in queries if not missing.issuperset(query.images)]
    relevant = [
        np.array([place_of[name] for name in query.images if name not in missing])
        for query in asked
    ]
    vectors = embed_once([query.text for query in asked], embed_queries)
    placings = place_images(vectors, gallery.vectors, gallery.offsets, relevant)
    direction = Direction(placings, np.arange(len(asked)))
    return Evaluation(
        what="own queries search all images",
        benchmark=None,
        split=None,
        num_images=len(gallery.names),
        num_queries=len(asked),
        num_missing=len(missing),
        num_empty_captions=0,
        ties=ties,
        rows=(measured("skytext", {"text_to_image": direction}, ties),),
    )


def evaluate_text_only(
    annotations: Annotations, embed_queries: Embed, *, ties: Ties = "expected"
) -> Evaluation:
    """Measure captions against captions: one, two and all of them for an image.

    Raises:
        CallError: no image has two captions.
    """
    vectors = caption_vectors(annotations, embed_queries)
    most = max(len(image.captions) for image in annotations.images) - 1
    rows = []
    for distinct in (True, False):
        for count in sorted({1, 2, most} & set(range(1, most + 1))):
            found = text_only(annotations, vectors, distinct=distinct, num_variants=count)
            repeats = "repeats removed" if distinct else "repeats kept"
            texts = "1 text an image" if count == 1 else f"up to {count} texts an image"
            name = f"{repeats} ({found.num_images:,} images), {texts}"
            rows.append(measured(name, {"text_to_image": found.direction}, ties))
    return Evaluation(
        what="text only: each caption in turn searches, the others stand for the images",
        benchmark=annotations.benchmark,
        split=annotations.split,
        num_images=len(annotations.images),
        num_queries=annotations.num_captions,
        num_missing=0,
        num_empty_captions=annotations.num_empty_captions,
        ties=ties,
        rows=tuple(rows),
        is_text_only=True,
    )


def _missing(wanted: Collection[str], gallery: Gallery, allowed: bool) -> set[str]:
    missing = set(wanted) - set(gallery.names)
    if missing and not allowed:
        some = ", ".join(sorted(missing)[:3])
        raise CallError(
            f"{len(missing):,} of {len(wanted):,} annotated images are not there or have failed "
            f"({some}{', …' if len(missing) > 3 else ''}): --allow-missing leaves them out"
        )
    return missing
