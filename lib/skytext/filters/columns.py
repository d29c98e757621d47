"""The columns that a filter can use, and the fields of the images' metadata."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from skytext.errors import ConfigError
from skytext.filters.literals import Kind, shown, text_literal

SPATIAL_NAMES = ("geometry", "bbox")
"""The names of an image's footprint. Spatial functions accept them. Comparisons do not."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table, or a field of its metadata.

    Attributes:
        name: the name in a filter.
        sql: the expression for the column in Lance. For metadata, the value of the expression is a
            JSON string.
        kind: kind of the values. None for metadata, because the values of a field can have
            different kinds.
    """

    name: str
    sql: str
    kind: Kind | None


class Need(NamedTuple):
    """A field that at least one row must have. Otherwise the filter is a mistake.

    Attributes:
        name: the name of the field in a filter.
        kind: the kind of the values that the field is compared with. None means any kind.
        sql: a Lance expression that is true for the rows that have the field.
    """

    name: str
    kind: Kind | None
    sql: str


def _columns() -> dict[str, Column]:
    kinds: dict[str, Kind] = dict.fromkeys(("datetime", "created_at"), "time")
    kinds |= dict.fromkeys(("gsd", "bbox.west", "bbox.south", "bbox.east", "bbox.north"), "number")
    found = [Column(name, name, kind) for name, kind in kinds.items()]
    # Lance compares an integer column only with a literal that fits its type, so cast to double.
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
"""The columns that can be compared, in addition to ``metadata.…``."""

# Each level is a nested call in Lance. The stack of Lance overflows at about 45 levels.
MAX_SEGMENTS = 16
_SEGMENT = r'(?:[^."]+|"(?:[^"]|"")*")'
_FIELD = re.compile(rf"metadata(?:\.{_SEGMENT})+")


def find_column(name: str) -> Column:
    """Return the column with a name, e.g. ``gsd``, ``bbox.west`` or ``metadata.two words``.

    A dot in a metadata name begins a nested field. If the name of a field contains a dot or a
    double quote, write this name in double quotes: ``metadata."a.b".c``. Inside the quotes, write a
    double quote twice.

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
            "metadata cannot be compared as a whole: write metadata.NAME for one of its fields"
        )
    if not _FIELD.fullmatch(name):
        raise ConfigError(
            f"there is no column {shown(name)} to filter on. The columns are "
            f"{', '.join(COLUMNS)}, geometry, and metadata.NAME for a field of the metadata"
        )
    path = metadata_path(name)
    if len(path) > MAX_SEGMENTS:
        raise ConfigError(
            f"{shown(name)} has {len(path)} levels of metadata: at most {MAX_SEGMENTS}"
        )
    sql = "metadata"
    for key in path:
        sql = f"json_get({sql}, {text_literal(key)})"
    return Column(name, f"json_extract({sql}, '$')", None)


def metadata_path(name: str) -> tuple[str, ...]:
    """Return the field names in a metadata name, from the outermost to the innermost."""
    return tuple(map(_unquoted, re.findall(rf"\.({_SEGMENT})", name)))


def metadata_name(path: tuple[str, ...]) -> str:
    """Return the metadata name of a `metadata_path`, with quotes only where needed."""
    return ".".join(["metadata", *map(_quoted, path)])


def _quoted(key: str) -> str:
    return key if re.fullmatch(r'[^."]+', key) else '"' + key.replace('"', '""') + '"'


def _unquoted(segment: str) -> str:
    return segment[1:-1].replace('""', '"') if segment.startswith('"') else segment
