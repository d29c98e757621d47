"""The columns that a filter can use, and the fields of the images' metadata."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from skytext.errors import ConfigError
from skytext.filters.literals import Kind, shown, text_literal

SPATIAL_NAMES = ("geometry", "bbox")
"""The names of an image's footprint: valid in spatial functions, not in comparisons."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table, or a field of its metadata.

    Attributes:
        name: the name in a filter.
        sql: its expression in Lance; for metadata the value is a JSON text.
        kind: kind of its values; None for metadata, because each value has its own kind.
    """

    name: str
    sql: str
    kind: Kind | None


class Need(NamedTuple):
    """A field that must exist somewhere in the table, else the condition is a mistake.

    Attributes:
        name: the column.
        kind: the kind of value that it is compared with; None for any kind.
        sql: true for the rows that have it.
    """

    name: str
    kind: Kind | None
    sql: str


def _columns() -> dict[str, Column]:
    kinds: dict[str, Kind] = dict.fromkeys(("datetime", "created_at"), "time")
    kinds |= dict.fromkeys(("gsd", "bbox.west", "bbox.south", "bbox.east", "bbox.north"), "number")
    found = [Column(name, name, kind) for name, kind in kinds.items()]
    # Lance accepts a literal for an integer column only if it fits the type.
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
"""The columns that can be compared, besides ``metadata.…``."""

# Each level is a nested call in Lance, whose stack overflows at about 45.
MAX_SEGMENTS = 16
_SEGMENT = r'(?:[^."]+|"(?:[^"]|"")*")'
_FIELD = re.compile(rf"metadata(?:\.{_SEGMENT})+")


def find_column(name: str) -> Column:
    """Return the column of a name: ``gsd``, ``bbox.west``, ``metadata.two words``.

    A dot in a metadata name begins a nested field. Write a field whose own name contains a dot or a
    double quote in double quotes, doubled inside: ``metadata."a.b".c``.

    Raises:
        ConfigError: no such column.
    """
    if name in COLUMNS:
        return COLUMNS[name]
    if name in SPATIAL_NAMES:
        raise ConfigError(
            f"{name} is a location and cannot be compared: write S_INTERSECTS(geometry, "
            "BBOX(west, south, east, north))"
        )
    if name == "metadata":
        raise ConfigError("metadata is filtered by field: metadata.NAME")
    if not _FIELD.fullmatch(name):
        raise ConfigError(
            f"there is no column {shown(name)} to filter on; there are {', '.join(COLUMNS)}, "
            "geometry, and metadata.NAME for a field of the source's metadata"
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
