"""Retrieval without images: some captions of a benchmark stand for the images, others ask.

It shows what the text side alone can do, pooling and embedder, where nobody has described the
images. Caption by caption: the first of every image asks and the rest stands for the image, then
the second, and so on, so that all images always have equally many texts. An image of fewer than two
captions takes no part; one that has run out of them stands there with all but its last.
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
    """Text to image, captions against captions.

    Attributes:
        num_images: those with at least two captions, which alone are searched.
        directions: how the captions that asked fared, by rule.
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
    """Let each caption search for its image among the other captions.

    Args:
        annotations: images and captions.
        vectors: of every caption.
        distinct: remove verbatim repeats within an image first; kept, many queries find their own
            words again.
        num_variants: how many captions at most stand for an image.
        rules: how images are ranked, all on the same captions.

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
