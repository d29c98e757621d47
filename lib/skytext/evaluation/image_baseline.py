"""Measure image vectors as a zero-shot baseline, alone and in combination with descriptions.

The image vectors alone are measured in the same way as CLIP in the literature. For text to image,
the text tower embeds a caption. The score of an image is the cosine between the caption vector and
the image vector. For image to text, an image is the query, and all captions are searched.

The combination is measured like a search with mode ``image+dense`` (`skytext.search.ranker`). The
ranking by image vectors and the ranking by descriptions are fused. In this module, the rankings
contain all images, and both directions are measured.
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
    """The name of the model that made the image vectors, and a function that embeds queries."""

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
    """Measure image vectors alone, and in combination with the ranking by the rule of the paper.

    Args:
        model: model of the image vectors.
        own_vectors: the image vector of each image, with unit length.
        documents: the vectors of the descriptions. The descriptions of one image are next to each
            other.
        texts: the queries. They are captions of a benchmark, or your own queries.
        text_vectors: the vectors of the queries, from the model that embedded the descriptions.
        to_find: for each query, the indices of the correct images.
        to_tell: for each image, the indices of its captions in ``texts``. If None, image to text is
            not measured.

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
            "vector: to make the missing vectors, run: skytext embed-images"
        )
    return Documents(np.stack(there), np.arange(len(there)))


def _units(to_find: Sequence[Indices], to_tell: Sequence[Indices] | None) -> Indices:
    """Return, for each query, the index of the unit that the bootstrap draws.

    The unit is the image of the query, or the query itself if ``to_tell`` is None.
    """
    if to_tell is None:
        return np.arange(len(to_find))
    return np.array([images[0] for images in to_find], dtype=np.intp)


def _ordered(directions: dict[str, Direction]) -> dict[str, Direction]:
    """Sort the directions by name, so that all rows have the same order."""
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
