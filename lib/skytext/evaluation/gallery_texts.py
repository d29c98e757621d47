"""The images' texts that are searched: of a table, or of RSRT-style JSON lines."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytext.captions.parsing import FIELDS, Variant
from skytext.errors import CallError
from skytext.evaluation.annotations import file_name
from skytext.evaluation.compared_setups import Granularity, variant_text, words_of
from skytext.evaluation.gallery_ranks import Documents
from skytext.evaluation.input_files import read_json_lines
from skytext.table.images_dataset import ImagesTable

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
_IMAGE_KEYS = ("image", "image_path", "filename")


@dataclass(frozen=True, slots=True)
class Described:
    """An image's path, its variants, and where known their vectors, author, and its own vector."""

    image: str
    variants: tuple[Variant, ...]
    vectors: NDArray[np.float32] | None
    model: str | None = None
    own_vector: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Gallery:
    """What is searched.

    Attributes:
        names: the images' file names without folder.
        documents: their variants' vectors.
        texts: their words, for the full-text index.
    """

    names: tuple[str, ...]
    documents: Documents
    texts: tuple[str, ...]


def described_in_table(
    table: ImagesTable, names: Collection[str] | None, *, own_vectors: bool = False
) -> Iterator[Described]:
    """Yield the images of a table that are done.

    Args:
        table: a version.
        names: only images of these file names; None for all.
        own_vectors: only images that have a vector of their own, and with it.
    """
    for image in table.described_images(names, vectors=True, image_vectors=own_vectors):
        if own_vectors and image.image_vector is None:
            continue
        variants = tuple(Variant(**{field: c[field] for field in FIELDS}) for c in image.captions)
        yield Described(image.member, variants, image.vectors, own_vector=image.image_vector)


def described_in_jsonl(path: Path) -> Iterator[Described]:
    """Yield the images of RSRT-style JSON lines: ``{"image", "variants": [{one_sentence, …}]}``.

    Raises:
        CallError: a missing file, or a line of another form.
    """
    for place, record in read_json_lines(path):
        yield _described(place, record)


def _described(place: str, record: Any) -> Described:
    if not isinstance(record, dict):
        raise CallError(f"{place} is no object")
    image = next((record[key] for key in _IMAGE_KEYS if record.get(key)), None)
    if not isinstance(image, str):
        raise CallError(f"{place}: no image name (expected one of {', '.join(_IMAGE_KEYS)})")
    variants = record.get("variants")
    if not isinstance(variants, list) or not variants:
        raise CallError(f"{place}: no list of variants, each {{{', '.join(FIELDS)}}}")
    made = tuple(_variant(place, variant) for variant in variants)
    model = record.get("model")
    return Described(image, made, None, model if isinstance(model, str) else None)


def _variant(place: str, value: Any) -> Variant:
    texts = [value.get(name) for name in FIELDS] if isinstance(value, dict) else [None]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise CallError(f"{place}: a variant lacks one of {', '.join(FIELDS)}")
    return Variant(*(str(text) for text in texts))


def select_images(
    images: Iterable[Described], expected: Collection[str], *, only_expected: bool
) -> list[Described]:
    """Return the images that are searched, in the order of their paths.

    Args:
        images: to choose from.
        expected: file names that some query should find; each may stand for one image only.
        only_expected: leave out all other images, as the benchmarks do.

    Raises:
        CallError: an ambiguous name, or none of the expected images is there.
    """
    expected = set(expected)
    kept: list[Described] = []
    paths: dict[str, str] = {}
    for image in images:
        name = file_name(image.image)
        if name in expected:
            if name in paths:
                raise CallError(
                    f"two images are named {name!r} ({paths[name]}, {image.image}): images are "
                    "matched by file name, so they cannot be told apart"
                )
            paths[name] = image.image
        if image.variants and (name in expected or not only_expected):
            kept.append(image)
    if not paths:
        raise CallError(
            f"none of the {len(expected):,} annotated images is there, such as "
            f"{min(expected)!r}: are these the captions of this archive?"
        )
    return sorted(kept, key=lambda image: image.image)


def make_gallery(
    images: Sequence[Described],
    embed: Embed,
    *,
    granularity: Granularity = "all",
    num_variants: int | None = None,
    keep_vectors: bool = True,
) -> Gallery:
    """Embed what is searched, in memory: 7.5 KB an image of five variants of 384 numbers.

    Args:
        images: in the order in which a sort shall see them.
        embed: embeds the texts of images that come without vectors; each text once.
        granularity: which part of a variant stands for it.
        num_variants: at most so many of an image's first ones.
        keep_vectors: search by the vectors that images come with, where they are of these texts.
    """
    standing = [image.variants[:num_variants] for image in images]
    known = [image.vectors[:num_variants] for image in images if image.vectors is not None]
    if keep_vectors and granularity == "all" and len(known) == len(images):
        vectors = np.concatenate(known)
    else:
        texts = [variant_text(one, granularity) for variants in standing for one in variants]
        vectors = embed_once(texts, embed)
    return Gallery(
        names=tuple(file_name(image.image) for image in images),
        documents=Documents(vectors, np.cumsum([0, *map(len, standing[:-1])])),
        texts=tuple(words_of(variants, granularity) for variants in standing),
    )


def embed_once(texts: Sequence[str], embed: Embed) -> NDArray[np.float32]:
    """Embed each distinct text once: repeats are exactly tied, and cost nothing."""
    places: dict[str, int] = {}
    for text in texts:
        places.setdefault(text, len(places))
    return embed(list(places))[[places[text] for text in texts]]
