"""Measure retrieval with only the human captions of a benchmark, without images or descriptions.

The measurement tests only the embedder and the pooling. It has several rounds. In round n, caption
n of each image is a query, and the other captions of the image represent the image. If an image has
fewer than n captions, the image has no query in round n. The image is then represented by all of
its captions except the last caption. Images with fewer than two captions are omitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skytext.errors import CallError
from skytext.evaluation.annotations import Annotations
from skytext.evaluation.compared_setups import PAPER_RULE, Rule
from skytext.evaluation.gallery_ranks import Documents, WordScores, place_images
from skytext.evaluation.gallery_texts import Embed
from skytext.evaluation.recall import Direction, Indices, Placings

TOO_FEW = "text-only evaluation needs images with at least two captions"


@dataclass(frozen=True, slots=True)
class TextOnly:
    """Results of searches in which captions are the queries.

    In each round, one caption of each searched image is omitted, and the other captions represent
    the image.

    Attributes:
        num_images: number of searched images. Each searched image has at least two captions.
        directions: for each ranking rule, the results of all queries.
    """

    num_images: int
    directions: dict[Rule, Direction]


def caption_vectors(annotations: Annotations, embed: Embed) -> dict[str, NDArray[np.float32]]:
    """Return the vector of every distinct caption."""
    texts = list(dict.fromkeys(text for image in annotations.images for text in image.captions))
    return dict(zip(texts, embed(texts), strict=True))


def text_only(
    annotations: Annotations,
    vectors: dict[str, NDArray[np.float32]],
    *,
    distinct: bool,
    num_variants: int | None = None,
    rules: Sequence[Rule] = (PAPER_RULE,),
) -> TextOnly:
    """Use each caption as a query that searches for the image of the caption.

    In each search, the other captions of an image represent the image.

    Args:
        annotations: images and captions.
        vectors: the vector of each caption.
        distinct: if true, repeated captions of an image are removed first. If false, many queries
            are equal to a caption that represents the image of the query.
        num_variants: maximum number of captions that represent an image. None for all captions.
        rules: the ranking rules. All rules use the same captions.

    Raises:
        CallError: no image has two captions.
    """
    images = [list(image.captions) for image in annotations.images]
    if distinct:
        images = [list(dict.fromkeys(captions)) for captions in images]
    images = [captions for captions in images if len(captions) > 1]
    if not images:
        raise CallError(f"{TOO_FEW}{' that differ' if distinct else ''}")
    rounds: dict[Rule, list[Placings]] = {rule: [] for rule in rules}
    units: list[Indices] = []
    for turn in range(max(map(len, images))):
        asking = [i for i, texts in enumerate(images) if len(texts) > turn]
        queries = [images[i][turn] for i in asking]
        standing = [_without(texts, turn)[:num_variants] for texts in images]
        documents = Documents(
            np.stack([vectors[text] for texts in standing for text in texts]),
            np.cumsum([0, *map(len, standing[:-1])]),
        )
        words = WordScores(["\n\n".join(texts) for texts in standing], queries)
        relevant = [np.array([i]) for i in asking]
        asked = np.stack([vectors[query] for query in queries])
        for rule in rules:
            rounds[rule].append(place_images(asked, documents, relevant, rule, words))
        units.append(np.array(asking, dtype=np.intp))
    unit = np.concatenate(units)
    directions = {rule: Direction(_joined(found), unit) for rule, found in rounds.items()}
    return TextOnly(len(images), directions)


def _without(texts: Sequence[str], turn: int) -> list[str]:
    left_out = min(turn, len(texts) - 1)
    return [text for i, text in enumerate(texts) if i != left_out]


def _joined(rounds: Sequence[Placings]) -> Placings:
    return Placings(
        better=np.concatenate([one.better for one in rounds]),
        tied=np.concatenate([one.tied for one in rounds]),
        own=np.concatenate([one.own for one in rounds]),
        sorted_position=np.concatenate([one.sorted_position for one in rounds]),
    )
