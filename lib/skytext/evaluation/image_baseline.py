"""The images' own vectors as the zero-shot baseline, and beside the descriptions.

Alone, the model is measured as the field measures CLIP: a caption goes through the text tower, an
image scores by the cosine of the two, and the other way round an image searches all captions. Fused
is what searches with mode ``image+dense`` do (`skytext.search.ranker`): the ranks by the images and
by their descriptions are added, here over everything that is searched, in both directions.
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
    """The model that made the images' vectors: its name, and its text tower."""

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
    """Measure the images' own vectors alone, and fused with the descriptions by the paper's rule.

    Args:
        model: of the images' vectors.
        own_vectors: of each image, unit length.
        documents: the descriptions' vectors, image by image.
        texts: the queries: captions, or one's own.
        text_vectors: of the queries, by the descriptions' model.
        to_find: of each query, the images that it should find.
        to_tell: of each image, its captions among the queries; None: text to image only.

    Raises:
        CallError: an image has no vector.
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
            f"{len(own_vectors) - len(there):,} of {len(own_vectors):,} images have no vector of "
            "their own: skytext embed-images gives them one"
        )
    return Documents(np.stack(there), np.arange(len(there)))


def _units(to_find: Sequence[Indices], to_tell: Sequence[Indices] | None) -> Indices:
    """Return what the bootstrap draws: a caption belongs to its image, a query to itself."""
    if to_tell is None:
        return np.arange(len(to_find))
    return np.array([images[0] for images in to_find], dtype=np.intp)


def _ordered(directions: dict[str, Direction]) -> dict[str, Direction]:
    """Put the directions in the order in which all rows have them."""
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
