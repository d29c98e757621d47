"""Read the images to search, and their texts, from a table or from JSON lines in RSRT format."""

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
    """A described image.

    The fields for the vectors of the variants, the model name and the image vector are None if
    their values are unknown.
    """

    image: str
    variants: tuple[Variant, ...]
    vectors: NDArray[np.float32] | None
    model: str | None = None
    own_vector: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Gallery:
    """A collection of images that are searched.

    Attributes:
        names: file names of the images, without folders.
        documents: vectors of the images' variants.
        texts: texts of the images for the full-text index.
    """

    names: tuple[str, ...]
    documents: Documents
    texts: tuple[str, ...]


def described_in_table(
    table: ImagesTable, names: Collection[str] | None, *, own_vectors: bool = False
) -> Iterator[Described]:
    """Yield the described images of a table.

    Args:
        table: the table, opened at one version.
        names: file names of the images to yield. None for all images.
        own_vectors: if true, only images that have an image vector are yielded, and the image
            vector is included.
    """
    for image in table.described_images(names, vectors=True, image_vectors=own_vectors):
        if own_vectors and image.image_vector is None:
            continue
        variants = tuple(Variant(**{field: c[field] for field in FIELDS}) for c in image.captions)
        yield Described(image.member, variants, image.vectors, own_vector=image.image_vector)


def described_in_jsonl(path: Path) -> Iterator[Described]:
    """Yield the images in a JSON lines file in RSRT format.

    Each line is an object ``{"image", "variants": [{"one_sentence", "feature", "caption"}]}``.

    Raises:
        CallError: the file is missing, or a line is malformed.
    """
    for place, record in read_json_lines(path):
        yield _described(place, record)


def _described(place: str, record: Any) -> Described:
    if not isinstance(record, dict):
        raise CallError(f"{place} is not an object")
    image = next((record[key] for key in _IMAGE_KEYS if record.get(key)), None)
    if not isinstance(image, str):
        raise CallError(
            f"{place} has no image name: expected one of the fields {', '.join(_IMAGE_KEYS)}"
        )
    variants = record.get("variants")
    if not isinstance(variants, list) or not variants:
        raise CallError(
            f"{place}: expected a list of variants, where each variant is an object with the "
            f"fields {', '.join(FIELDS)}"
        )
    made = tuple(_variant(place, variant) for variant in variants)
    model = record.get("model")
    return Described(image, made, None, model if isinstance(model, str) else None)


def _variant(place: str, value: Any) -> Variant:
    texts = [value.get(name) for name in FIELDS] if isinstance(value, dict) else [None]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise CallError(f"{place}: a variant does not have all of the fields {', '.join(FIELDS)}")
    return Variant(*(str(text) for text in texts))


def select_images(
    images: Iterable[Described], expected: Collection[str], *, only_expected: bool
) -> list[Described]:
    """Select the images to search, and return them sorted by path.

    Args:
        images: all images.
        expected: file names of the expected images.
        only_expected: if true, all other images are omitted. Published benchmarks also search only
            the expected images.

    Raises:
        CallError: two images have the same expected file name, or no expected image exists.
    """
    expected = set(expected)
    kept: list[Described] = []
    paths: dict[str, str] = {}
    for image in images:
        name = file_name(image.image)
        if name in expected:
            if name in paths:
                raise CallError(
                    f"two images have the file name {name!r} ({paths[name]}, {image.image}). "
                    "These two images cannot be distinguished, because images are found by "
                    "file name"
                )
            paths[name] = image.image
        if image.variants and (name in expected or not only_expected):
            kept.append(image)
    if not paths:
        raise CallError(
            f"none of the {len(expected):,} annotated images was found (one of them is "
            f"{min(expected)!r}): check that the annotations belong to this archive"
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
    """Make a gallery in memory. An image with five vectors of 384 dimensions needs 7.5 KB.

    The existing vectors are used if ``keep_vectors`` is true, all images have vectors, and
    ``granularity`` is ``all``. In all other cases, the texts are embedded.

    Args:
        images: the images, in the order of the gallery.
        embed: a function that embeds texts.
        granularity: the part of a variant that is searched.
        num_variants: number of variants of each image to use. The first variants of the image are
            used. None for all variants.
        keep_vectors: whether existing vectors may be used.
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
    """Return the vectors of texts.

    Texts that are equal are embedded only once, and get the same vector.
    """
    places: dict[str, int] = {}
    for text in texts:
        places.setdefault(text, len(places))
    return embed(list(places))[[places[text] for text in texts]]
