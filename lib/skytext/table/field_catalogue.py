"""The field catalogue of a version.

The catalogue lists the fields that filters can use, and the most frequent values of each field. It
is built together with the indexes. It is stored in the table's configuration, so every later
version also contains the catalogue. The catalogue contains a digest of the scanned fragments.
Readers compare this digest with the fragments of their version to detect added or removed rows.
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
"""A list or an object in the metadata is of the kind ``other``.

A filter can test such a value only with IS NULL.
"""


class ValueCount(BaseModel):
    """A value and the number of images that have this value."""

    model_config = ConfigDict(frozen=True)

    value: bool | float | str
    num_images: int


class Field(BaseModel):
    """An entry of the catalogue: the values of one kind in one column or metadata field.

    Attributes:
        name: name of the field, as filters use it.
        kind: kind of the values in this entry. If a metadata field has values of several kinds, it
            has one entry for each kind.
        num_images: number of images that have a value of this kind.
        minimum: the smallest number or the earliest time (ISO 8601); None for other kinds.
        maximum: the largest number or the latest time (ISO 8601); None for other kinds.
        top_values: the most frequent values, in descending order of frequency. It is empty if the
            values of the field are not counted. The values of times, of sides of boxes and of
            unique names are not counted.
        num_values: number of distinct values; None if the values of the field are not counted.
        is_cut: true if the field has distinct values that were not counted. The counts in
            ``top_values`` are correct, but a value that was not counted may be more frequent.
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
    """The relation between the rows of a catalogue and the rows of a version."""

    ALL = "all"
    """The catalogue was built from exactly the rows of the version."""
    SOME = "some"
    """Rows were added later. All values in the catalogue still exist in the version.
    """
    NONE = "none"
    """Rows were removed or moved after the catalogue was built."""


class FieldCatalogue(BaseModel):
    """The field catalogue of a version. It contains the fields of the described images.

    Attributes:
        num_images: number of images that were scanned.
        fields: first the entries of the columns, then the entries of the metadata fields, sorted by
            name. A field is omitted if no image has a value of this field.
        is_cut: true if the metadata has fields that ``fields`` does not contain.
        last_fragment: the highest id of the scanned fragments.
        fragments: result of `fragments_digest` for the scanned fragments.
    """

    model_config = ConfigDict(frozen=True)

    num_images: int
    fields: tuple[Field, ...]
    is_cut: bool
    last_fragment: int
    fragments: str

    def coverage(self, dataset: lance.LanceDataset) -> Coverage:
        """Compare the rows of the catalogue with the rows of a version, and return the relation."""
        if fragments_digest(dataset, self.last_fragment) != self.fragments:
            return Coverage.NONE
        ids = [fragment.fragment_id for fragment in dataset.get_fragments()]
        return Coverage.SOME if max(ids, default=-1) > self.last_fragment else Coverage.ALL

    def of_name(self, name: str) -> Iterator[Field]:
        """Yield the entries of a field. There is one entry for each kind of value."""
        return (field for field in self.fields if field.name == name)

    def has(self, need: Need) -> bool | None:
        """Return whether any image has a value that a condition can test; None if unknown."""
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
    """Return whether the values include the number 0 or 1; None if this is unknown.

    Filters treat 1 as true and 0 as false.
    """
    for field in found:
        if field.kind == "number":
            if any(one.value in (0, 1) for one in field.top_values):
                return True
            is_beyond = float(field.minimum or 0) > 1 or float(field.maximum or 0) < 0
            if not is_beyond and (field.is_cut or field.num_values != len(field.top_values)):
                return None
    return False


def fragments_digest(dataset: lance.LanceDataset, last_fragment: int) -> str:
    """Return a digest of the fragments with ids up to ``last_fragment``.

    The digest is computed from the id, the number of rows and the number of deleted rows of each
    fragment.
    """
    entries = sorted(
        (fragment.fragment_id, fragment.metadata.physical_rows, fragment.metadata.num_deletions)
        for fragment in dataset.get_fragments()
        if fragment.fragment_id <= last_fragment
    )
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()[:32]


def read_catalogue(dataset: lance.LanceDataset) -> FieldCatalogue | None:
    """Return the catalogue of a version; None if the version has no readable catalogue."""
    stored = dataset.config().get(_KEY)
    if stored is None:
        return None
    try:
        return FieldCatalogue.model_validate_json(zlib.decompress(base64.b85decode(stored)))
    except (ValueError, zlib.error, ValidationError):
        # A later release wrote this catalogue. The next index build replaces the catalogue.
        return None


def store_catalogue(dataset: lance.LanceDataset, catalogue: FieldCatalogue) -> None:
    """Store a catalogue. This creates a new version."""
    packed = zlib.compress(catalogue.model_dump_json(exclude_defaults=True).encode(), 9)
    dataset.update_config({_KEY: base64.b85encode(packed).decode()})
