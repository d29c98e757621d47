"""The field catalogue of a version: the fields that filters can use, and their values.

It is made with the indexes and stored in the table's configuration, so every later version has it.
It records the fragments it was made from. A later version can thus detect added or removed rows.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Iterator
from enum import Enum
from typing import Literal

import lance
from pydantic import BaseModel, ConfigDict, ValidationError

from skytext.filters.columns import Need, metadata_name, metadata_path

_KEY = "skytext.field_catalogue"

FieldKind = Literal["number", "text", "time", "boolean", "other"]
"""``other``: a metadata list or object; filters can only test it with IS NULL."""


class ValueCount(BaseModel):
    """A value and the number of images with it."""

    model_config = ConfigDict(frozen=True)

    value: bool | float | str
    num_images: int


class Field(BaseModel):
    """A column or a metadata field, with its values of one kind.

    Attributes:
        name: the field's name in filters.
        kind: the kind of these values. A metadata field with several kinds has one entry per kind.
        num_images: number of images with such a value.
        minimum: smallest number or time (ISO 8601); None for other kinds.
        maximum: largest number or time, like ``minimum``.
        top_values: the most frequent values in descending order; empty for fields without counts
            (times, box sides, unique names).
        num_values: number of distinct values; None for fields without counts.
        is_cut: the field has more distinct values than were counted. The counts in ``top_values``
            are correct, but an uncounted value may be more frequent.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    kind: FieldKind
    num_images: int
    minimum: float | str | None = None
    maximum: float | str | None = None
    top_values: tuple[ValueCount, ...] = ()
    num_values: int | None = None
    is_cut: bool = False


class Coverage(Enum):
    """How the rows of a catalogue relate to the rows of a version."""

    ALL = "all"
    """The catalogue was made from the same rows."""
    SOME = "some"
    """Rows were added later. All values in the catalogue exist in the version."""
    NONE = "none"
    """Rows were removed or moved later."""


class FieldCatalogue(BaseModel):
    """The fields of the described images.

    Attributes:
        num_images: number of images that were scanned.
        fields: columns first, then metadata fields by name. Fields without any value are omitted.
        is_cut: the metadata has more fields than are listed.
        last_fragment: the highest scanned fragment id.
        fragments: digest of the fragments up to ``last_fragment`` and of their deletions.
    """

    model_config = ConfigDict(frozen=True)

    num_images: int
    fields: tuple[Field, ...]
    is_cut: bool
    last_fragment: int
    fragments: str

    def coverage(self, dataset: lance.LanceDataset) -> Coverage:
        """Return how the rows of the catalogue relate to the rows of a version."""
        if fragments_digest(dataset, self.last_fragment) != self.fragments:
            return Coverage.NONE
        ids = [fragment.fragment_id for fragment in dataset.get_fragments()]
        return Coverage.SOME if max(ids, default=-1) > self.last_fragment else Coverage.ALL

    def of_name(self, name: str) -> Iterator[Field]:
        """Yield the entries of a field, one for each kind of value."""
        return (field for field in self.fields if field.name == name)

    def has(self, need: Need) -> bool | None:
        """Return whether any image has a value for a condition; None if unknown."""
        is_metadata = need.name.startswith("metadata.")
        name = metadata_name(metadata_path(need.name)) if is_metadata else need.name
        found = list(self.of_name("bbox.west" if name == "bbox" else name))
        if need.kind is None or any(field.kind == need.kind for field in found):
            if found:
                return True
        elif need.kind == "boolean" and (flag := _has_flag(found)) is not False:
            return flag
        return None if self.is_cut and is_metadata else False


def _has_flag(found: list[Field]) -> bool | None:
    """Return whether the numbers include 1 or 0, which filters treat as true and false."""
    for field in found:
        if field.kind == "number":
            if any(one.value in (0, 1) for one in field.top_values):
                return True
            is_beyond = float(field.minimum or 0) > 1 or float(field.maximum or 0) < 0
            if not is_beyond and (field.is_cut or field.num_values != len(field.top_values)):
                return None
    return False


def fragments_digest(dataset: lance.LanceDataset, last_fragment: int) -> str:
    """Return a digest of the fragments up to an id, with their row and deletion counts."""
    entries = sorted(
        (fragment.fragment_id, fragment.metadata.physical_rows, fragment.metadata.num_deletions)
        for fragment in dataset.get_fragments()
        if fragment.fragment_id <= last_fragment
    )
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()[:32]


def read_catalogue(dataset: lance.LanceDataset) -> FieldCatalogue | None:
    """Return the catalogue stored in a version; None without one."""
    stored = dataset.config().get(_KEY)
    if stored is None:
        return None
    try:
        return FieldCatalogue.model_validate_json(zlib.decompress(base64.b85decode(stored)))
    except (ValueError, zlib.error, ValidationError):
        # A later release wrote it. It is ignored, and the next index build replaces it.
        return None


def store_catalogue(dataset: lance.LanceDataset, catalogue: FieldCatalogue) -> None:
    """Store a catalogue. Creates a version."""
    packed = zlib.compress(catalogue.model_dump_json(exclude_defaults=True).encode(), 9)
    dataset.update_config({_KEY: base64.b85encode(packed).decode()})
