"""The searched images and their texts, from a table or from RSRT-style JSON lines."""

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
    """An image's path and variants, and, if known, its vectors, model, and image vector."""

    image: str
    variants: tuple[Variant, ...]
    vectors: NDArray[np.float32] | None
    model: str | None = None
    own_vector: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Gallery:
    """The searched images.

    Attributes:
        names: file names of the images without folder.
        documents: vectors of their variants.
        texts: their texts for the full-text index.
    """

    names: tuple[str, ...]
    documents: Documents
    texts: tuple[str, ...]


def described_in_table(
    table: ImagesTable, names: Collection[str] | None, *, own_vectors: bool = False
) -> Iterator[Described]:
    """Yield the described images of a table.

    Args:
        table: a version.
        names: only images with these file names; None for all.
        own_vectors: only images with an image vector, and include that vector.
    """
    for image in table.described_images(names, vectors=True, image_vectors=own_vectors):
        if own_vectors and image.image_vector is None:
            continue
        variants = tuple(Variant(**{field: c[field] for field in FIELDS}) for c in image.captions)
        yield Described(image.member, variants, image.vectors, own_vector=image.image_vector)


def described_in_jsonl(path: Path) -> Iterator[Described]:
    """Yield the images of RSRT-style JSON lines: ``{"image", "variants": [{one_sentence, …}]}``.

    Raises:
        CallError: a missing file, or a malformed line.
    """
    for place, record in read_json_lines(path):
        yield _described(place, record)


def _described(place: str, record: Any) -> Described:
    if not isinstance(record, dict):
        raise CallError(f"{place} is not an object")
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
    """Return the images to search, sorted by path.

    Args:
        images: all images.
        expected: file names of the expected images; each must be unique.
        only_expected: omit all other images, as the benchmarks do.

    Raises:
        CallError: an ambiguous name, or none of the expected images exists.
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
                    "matched by file name, so they cannot be distinguished"
                )
            paths[name] = image.image
        if image.variants and (name in expected or not only_expected):
            kept.append(image)
    if not paths:
        raise CallError(
            f"none of the {len(expected):,} annotated images exists here, such as "
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
    """Embed the gallery in memory: 7.5 KB per image with five variants of 384 dimensions.

    Args:
        images: in sorting order.
        embed: embeds the texts of images without vectors; each text once.
        granularity: the searched part of a variant.
        num_variants: maximum number of an image's first variants.
        keep_vectors: use existing vectors if they were made from these texts.
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
    """Embed each distinct text once, so equal texts have exactly equal vectors."""
    places: dict[str, int] = {}
    for text in texts:
        places.setdefault(text, len(places))
    return embed(list(places))[[places[text] for text in texts]]
