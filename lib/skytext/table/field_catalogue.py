"""The catalogue of fields of a version: what can be filtered on, and which values there are.

It is made with the indexes and stands in the table's configuration, which travels with every later
version. It names the fragments that it was made of, so that a later version knows whether rows were
added or taken away since.
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
"""``other``: a list or an object in the metadata, which filters find by IS NULL alone."""


class ValueCount(BaseModel):
    """A value and the number of images that have it."""

    model_config = ConfigDict(frozen=True)

    value: bool | float | str
    num_images: int


class Field(BaseModel):
    """A column, or a field of the metadata, and its values of one kind.

    Attributes:
        name: as filters name it.
        kind: of these values: a metadata field may have several kinds, each with an entry.
        num_images: images that have such a value.
        minimum: of numbers and times; times in ISO 8601. None for other kinds.
        maximum: as ``minimum``.
        top_values: the most frequent values, most frequent first; empty where they are not counted
            (times, sides of boxes, names that are unique).
        num_values: different values; None where they are not counted.
        is_cut: there are more different values than were counted. The counts of those in
            ``top_values`` are right all the same, but a later value may be more frequent.
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
    """What a catalogue says of a version."""

    ALL = "all"
    """It was made of the same rows."""
    SOME = "some"
    """Rows were added since: what it has, the version has."""
    NONE = "none"
    """Rows were taken away or moved since."""


class FieldCatalogue(BaseModel):
    """The fields of the images that are done.

    Attributes:
        num_images: that were looked at.
        fields: columns first, then metadata by name. A field that no image has is not listed.
        is_cut: the metadata has more fields than are listed.
        last_fragment: the highest id of a fragment that was looked at.
        fragments: a digest of the fragments up to that one, and of what was deleted from them.
    """

    model_config = ConfigDict(frozen=True)

    num_images: int
    fields: tuple[Field, ...]
    is_cut: bool
    last_fragment: int
    fragments: str

    def coverage(self, dataset: lance.LanceDataset) -> Coverage:
        """Return whether a version has the rows that the catalogue was made of, and no others."""
        if fragments_digest(dataset, self.last_fragment) != self.fragments:
            return Coverage.NONE
        ids = [fragment.fragment_id for fragment in dataset.get_fragments()]
        return Coverage.SOME if max(ids, default=-1) > self.last_fragment else Coverage.ALL

    def of_name(self, name: str) -> Iterator[Field]:
        """Yield the entries of a field, one for each kind of value that it has."""
        return (field for field in self.fields if field.name == name)

    def has(self, need: Need) -> bool | None:
        """Return whether an image has what a condition asks about; None where it is not known."""
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
    """Return whether numbers are among the values that count as true and false: 1 and 0."""
    for field in found:
        if field.kind == "number":
            if any(one.value in (0, 1) for one in field.top_values):
                return True
            is_beyond = float(field.minimum or 0) > 1 or float(field.maximum or 0) < 0
            if not is_beyond and (field.is_cut or field.num_values != len(field.top_values)):
                return None
    return False


def fragments_digest(dataset: lance.LanceDataset, last_fragment: int) -> str:
    """Return a digest of the fragments up to an id: which rows they have, and had deleted."""
    said = sorted(
        (fragment.fragment_id, fragment.metadata.physical_rows, fragment.metadata.num_deletions)
        for fragment in dataset.get_fragments()
        if fragment.fragment_id <= last_fragment
    )
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]


def read_catalogue(dataset: lance.LanceDataset) -> FieldCatalogue | None:
    """Return the catalogue that travels with a version; None where none was made."""
    stored = dataset.config().get(_KEY)
    if stored is None:
        return None
    try:
        return FieldCatalogue.model_validate_json(zlib.decompress(base64.b85decode(stored)))
    except (ValueError, zlib.error, ValidationError):
        # Of a later release: it counts as none, and the next index makes it anew.
        return None


def store_catalogue(dataset: lance.LanceDataset, catalogue: FieldCatalogue) -> None:
    """Store a catalogue: makes a version."""
    packed = zlib.compress(catalogue.model_dump_json(exclude_defaults=True).encode(), 9)
    dataset.update_config({_KEY: base64.b85encode(packed).decode()})
