"""Measure the image vectors as a zero-shot baseline, alone and combined with the descriptions.

Alone, the model is measured like CLIP in the literature: the text tower embeds a caption, the score
of an image is the cosine of the two, and in the other direction an image searches all captions.
Combined, it is measured like searches with mode ``image+dense`` (`skytext.search.ranker`): the
ranks by images and by descriptions are added, here over the whole gallery and in both directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from skytext.errors import CallError
from skytext.evaluation.compared_setups import PAPER_RULE
from skytext.evaluation.gallery_ranks import Documents, place_captions, place_images
from skytext.evaluation.gallery_texts import Embed, embed_once
from skytext.evaluation.recall import (
    Direction,
    Floats,
    Indices,
    Placings,
    ScoreRows,
    place,
)
from skytext.evaluation.recall_intervals import Found
from skytext.search.fusion import fuse, pool

_ROWS_AT_ONCE = 256


class ImageModel(NamedTuple):
    """The model of the image vectors: its name and its text tower."""

    name: str
    queries: Embed


def found_by_images(
    model: ImageModel,
    own_vectors: Sequence[Floats | None],
    documents: Documents,
    texts: Sequence[str],
    text_vectors: Floats,
    to_find: Sequence[Indices],
    to_tell: Sequence[Indices] | None,
) -> list[Found]:
    """Measure the image vectors alone, and fused with the descriptions by the paper's rule.

    Args:
        model: model of the image vectors.
        own_vectors: image vector of each image, unit length.
        documents: vectors of the descriptions, grouped by image.
        texts: the queries: captions, or your own.
        text_vectors: vectors of the queries by the descriptions' model.
        to_find: indices of the right images of each query.
        to_tell: indices of each image's captions among the queries; None: text to image only.

    Raises:
        CallError: an image has no image vector.
    """
    images = _as_documents(own_vectors)
    queries = embed_once(texts, model.queries)
    units = _units(to_find, to_tell)
    by_both = [_images_for(queries, images), _images_for(text_vectors, documents)]
    alone = {"text_to_image": Direction(place_images(queries, images, to_find, PAPER_RULE), units)}
    both = {"text_to_image": Direction(_fused(by_both, to_find), units)}
    if to_tell is not None:
        units = np.arange(len(to_tell))
        alone["image_to_text"] = Direction(
            place_captions(images, queries, to_tell, PAPER_RULE), units
        )
        by_both = [_captions_for(images, queries), _captions_for(documents, text_vectors)]
        both["image_to_text"] = Direction(_fused(by_both, to_tell), units)
    setup = {"image_model": model.name}
    return [
        Found(
            f"images alone: {model.name}",
            setup | {"mode": "image", "kind": "zero-shot"},
            _ordered(alone),
        ),
        Found(
            f"images and descriptions: {model.name}; rrf",
            setup | {"mode": "image+dense", "pooling": PAPER_RULE.pooling, "fusion": "rrf"},
            _ordered(both),
        ),
    ]


def _as_documents(own_vectors: Sequence[Floats | None]) -> Documents:
    there = [vector for vector in own_vectors if vector is not None]
    if len(there) < len(own_vectors):
        raise CallError(
            f"{len(own_vectors) - len(there):,} of {len(own_vectors):,} images have no image "
            "vector: skytext embed-images makes them"
        )
    return Documents(np.stack(there), np.arange(len(there)))


def _units(to_find: Sequence[Indices], to_tell: Sequence[Indices] | None) -> Indices:
    """Return the units that the bootstrap draws: a caption's unit is its image."""
    if to_tell is None:
        return np.arange(len(to_find))
    return np.array([images[0] for images in to_find], dtype=np.intp)


def _ordered(directions: dict[str, Direction]) -> dict[str, Direction]:
    """Sort the directions into the same order for all rows."""
    return {name: directions[name] for name in sorted(directions)}


def _images_for(queries: Floats, documents: Documents) -> ScoreRows:
    def score_rows(first: int, last: int) -> Floats:
        return pool(queries[first:last] @ documents.vectors.T, documents.offsets, "max")

    return score_rows


def _captions_for(documents: Documents, captions: Floats) -> ScoreRows:
    vectors, offsets = documents.vectors, documents.offsets
    ends = np.append(offsets[1:], len(vectors))

    def score_rows(first: int, last: int) -> Floats:
        some = vectors[offsets[first] : ends[last - 1]]
        return pool((some @ captions.T).T, offsets[first:last] - offsets[first], "max").T

    return score_rows


def _fused(rankings: Sequence[ScoreRows], relevant: Sequence[Indices]) -> Placings:
    def score_rows(first: int, last: int) -> Floats:
        return fuse([ranking(first, last) for ranking in rankings], "rrf")

    return place(score_rows, relevant, rows_at_once=_ROWS_AT_ONCE)
