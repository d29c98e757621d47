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
from skytext.evaluation.recall import Direction, Indices, Placings, place_images
from skytext.evaluation.texts import Embed


@dataclass(frozen=True, slots=True)
class TextOnly:
    """Text to image, captions against captions.

    Attributes:
        distinct: verbatim repeats within an image were removed first.
        num_variants: at most so many texts stood for an image; None for all.
        num_images: those with at least two captions, which alone are searched.
        num_queries: captions that asked.
        direction: how they fared.
    """

    distinct: bool
    num_variants: int | None
    num_images: int
    num_queries: int
    direction: Direction


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
) -> TextOnly:
    """Let each caption search for its image among the other captions.

    Args:
        annotations: images and captions.
        vectors: of every caption.
        distinct: remove verbatim repeats within an image first; kept, many queries find their own
            words again.
        num_variants: how many captions at most stand for an image.

    Raises:
        CallError: no image has two captions.
    """
    images = [list(image.captions) for image in annotations.images]
    if distinct:
        images = [list(dict.fromkeys(captions)) for captions in images]
    images = [captions for captions in images if len(captions) > 1]
    if not images:
        raise CallError("text-only evaluation needs images with at least two captions")
    rounds: list[Placings] = []
    units: list[Indices] = []
    for turn in range(max(map(len, images))):
        asking = [i for i, texts in enumerate(images) if len(texts) > turn]
        standing = [_without(texts, turn)[:num_variants] for texts in images]
        counts = [len(texts) for texts in standing]
        rounds.append(
            place_images(
                np.stack([vectors[images[i][turn]] for i in asking]),
                np.stack([vectors[text] for texts in standing for text in texts]),
                np.cumsum([0, *counts[:-1]]),
                [np.array([i]) for i in asking],
            )
        )
        units.append(np.array(asking, dtype=np.intp))
    unit = np.concatenate(units)
    return TextOnly(
        distinct, num_variants, len(images), len(unit), Direction(_joined(rounds), unit)
    )


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
