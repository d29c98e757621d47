"""The columns and the metadata fields that a filter can use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from skytext.errors import ConfigError
from skytext.filters.literals import Kind, shown, text_literal

SPATIAL_NAMES = ("geometry", "bbox")
"""The names of the footprint of an image. Only spatial functions accept these names."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column or a metadata field that a filter can use.

    Attributes:
        name: the name in a filter.
        sql: the Lance expression for the column. For a metadata field, the value of this expression
            is a JSON string.
        kind: kind of the values. None for a metadata field, because its values can have different
            kinds.
    """

    name: str
    sql: str
    kind: Kind | None


class Need(NamedTuple):
    """A field that a filter needs. If no row has this field, the filter is probably a mistake.

    Attributes:
        name: the name of the field in a filter.
        kind: the kind of values that the field must have. None means that every kind is allowed.
        sql: a Lance expression. It is true for the rows that have a value of this kind in the
            field.
    """

    name: str
    kind: Kind | None
    sql: str


def _columns() -> dict[str, Column]:
    kinds: dict[str, Kind] = dict.fromkeys(("datetime", "created_at"), "time")
    kinds |= dict.fromkeys(("gsd", "bbox.west", "bbox.south", "bbox.east", "bbox.north"), "number")
    found = [Column(name, name, kind) for name, kind in kinds.items()]
    # Lance can compare an integer column only with a literal of the same type. So convert the
    # column to double.
    found += [
        Column(name, f"cast({name} as double)", "number")
        for name in ("width_px", "height_px", "byte_length", "num_variants")
    ]
    found += [
        Column(name, name, "text")
        for name in (
            "collection",
            "archive",
            "shard",
            "member",
            "uri",
            "format",
            "image_id",
            "content_sha256",
            "caption_model",
            "prompt_id",
            "run_id",
        )
    ]
    return {column.name: column for column in found}


COLUMNS = _columns()
"""The columns that a filter can compare. Metadata fields can also be compared."""

# Each level of metadata becomes a nested call in Lance. At about 45 levels, Lance fails with a
# stack overflow.
MAX_SEGMENTS = 16
_SEGMENT = r'(?:[^."]+|"(?:[^"]|"")*")'
_FIELD = re.compile(rf"metadata(?:\.{_SEGMENT})+")


def find_column(name: str) -> Column:
    """Return the column of a name, for example ``gsd``, ``bbox.west`` or ``metadata.two words``.

    In a metadata name, a dot separates a field from a nested field. A field name that contains a
    dot or a double quote must be in double quotes, for example ``metadata."a.b".c``. Inside the
    quotes, each double quote must be written twice.

    Raises:
        ConfigError: there is no column with this name.
    """
    if name in COLUMNS:
        return COLUMNS[name]
    if name in SPATIAL_NAMES:
        raise ConfigError(
            f"{name} is a location and cannot be compared: write S_INTERSECTS(geometry, "
            "BBOX(west, south, east, north))"
        )
    if name == "metadata":
        raise ConfigError(
            "metadata cannot be compared as a whole: write metadata.NAME for one field"
        )
    if not _FIELD.fullmatch(name):
        raise ConfigError(
            f"there is no column {shown(name)} to filter on. The columns are "
            f"{', '.join(COLUMNS)}, geometry, and metadata.NAME for a field of the metadata"
        )
    path = metadata_path(name)
    if len(path) > MAX_SEGMENTS:
        raise ConfigError(
            f"{shown(name)} has {len(path)} levels of metadata: at most {MAX_SEGMENTS} are possible"
        )
    sql = "metadata"
    for key in path:
        sql = f"json_get({sql}, {text_literal(key)})"
    return Column(name, f"json_extract({sql}, '$')", None)


def metadata_path(name: str) -> tuple[str, ...]:
    """Split a metadata name into field names. The name of the outermost field is first."""
    return tuple(map(_unquoted, re.findall(rf"\.({_SEGMENT})", name)))


def metadata_name(path: tuple[str, ...]) -> str:
    """Return the metadata name for a result of `metadata_path`. Names are quoted if necessary."""
    return ".".join(["metadata", *map(_quoted, path)])


def _quoted(key: str) -> str:
    return key if re.fullmatch(r'[^."]+', key) else '"' + key.replace('"', '""') + '"'


def _unquoted(segment: str) -> str:
    return segment[1:-1].replace('""', '"') if segment.startswith('"') else segment
