"""Choose the image column and the metadata columns of a Parquet file.

An image column is a binary column, or a struct with a binary field ``bytes`` and an optional string
field ``path``. Hugging Face datasets use such a struct for images. The following rules select
candidates for the image column. The first rule that finds at least one column is used:

1. the column that the user has chosen (``image_column``);
2. the columns that the Hugging Face features in the file declare as ``Image``;
3. the struct columns with a binary field ``bytes``;
4. the binary columns, except geometries.

If there are several candidates, and exactly one of them has a common name for images (such as
``image``), this candidate is the image column. Otherwise an error message lists the candidates.

All other columns become metadata, with three exceptions. Binary columns (masks, thumbnails), lists
of floats (embeddings), and columns that have the same name as another column are not read. But a
column ``bbox`` is always read. If there is no column ``bbox``, the bounding box is computed from
the geometry column. This is the primary column of GeoParquet, or the only binary column with a
common name for geometries.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from skytext.errors import SourceError

_IMAGE_NAMES = frozenset(
    {
        *("image", "images", "img", "picture", "chip", "tile"),
        *("image_bytes", "img_bytes", "image_data", "image_content", "bytes", "content", "data"),
        *("jpg", "jpeg", "png", "webp", "tif", "tiff"),
    }
)
_GEOMETRY_NAMES = frozenset({"geometry", "geom", "wkb", "wkb_geometry", "footprint"})
_BBOX = "bbox"
_DEGREES = ("GEOGCS", "GEOGCRS", "EPSG:4326", "OGC:CRS84")


@dataclass(frozen=True)
class Columns:
    """The columns in a Parquet file that the reader uses.

    Attributes:
        image: the name of the image column.
        is_struct: true if the image column is a struct, and false if it is a binary column.
        has_path: true if the image column is a struct with a field ``path``.
        metadata_names: the names of the columns that become metadata.
        geometry: the name of the WKB column from which the bounding box is computed. None if there
            is no geometry column, or if there is a column ``bbox``.
        other_crs: the name of the coordinate reference system of the geometry. None if the
            coordinates are longitude and latitude.
    """

    image: str
    is_struct: bool
    has_path: bool
    metadata_names: tuple[str, ...]
    geometry: str | None = None
    other_crs: str | None = None

    @property
    def read(self) -> tuple[str, ...]:
        """The names of all columns to read, except the image column."""
        names = self.metadata_names
        return names if self.geometry is None else (*names, self.geometry)

    @property
    def data_path(self) -> str:
        """The Parquet path of the image bytes."""
        return f"{self.image}.bytes" if self.is_struct else self.image

    @property
    def name_path(self) -> str | None:
        """The Parquet path of the image names. None if the file has no image names."""
        return f"{self.image}.path" if self.has_path else None


class NoImageColumnError(SourceError):
    """The file has no column that could be the image column."""


def find_columns(schema: pa.Schema, image_column: str | None) -> Columns:
    """Find the image column and the metadata columns of a file.

    Raises:
        NoImageColumnError: there is no image column.
        SourceError: several columns could be the image column, the chosen column does not exist,
            or the chosen column has the wrong type.
    """
    name = _chosen(schema, image_column) if image_column else _found(schema)
    field = schema.field(name)
    is_struct = pa.types.is_struct(field.type)
    has_path = is_struct and any(
        inner.name == "path" and is_text(inner.type) for inner in field.type
    )
    # If several columns have the same name, none of these columns is read.
    times = Counter(schema.names)
    schema = pa.schema([f for f in schema if times[f.name] == 1], schema.metadata)
    metadata_names = tuple(
        field.name
        for field in schema
        if field.name != name and _is_metadata(field.name, field.type)
    )
    geometry = None if _BBOX in schema.names else _geometry(schema, name)
    return Columns(
        name, is_struct, has_path, metadata_names, geometry, _other_crs(schema, geometry)
    )


def _chosen(schema: pa.Schema, name: str) -> str:
    places = schema.get_all_field_indices(name)
    if len(places) != 1:
        what = "there is no column" if not places else "there are several columns"
        raise SourceError(f"{what} {name!r}: the file's columns are {_names(schema.names)}")
    if not _holds_images(schema.field(name).type):
        raise SourceError(
            f"column {name!r} has type {schema.field(name).type}, but an image column must be "
            "binary or a struct with a binary field 'bytes'. Set sources.image_column to another "
            f"column of the file: {_names(schema.names)}"
        )
    return name


def _found(schema: pa.Schema) -> str:
    able = [field.name for field in schema if _holds_images(field.type)]
    declared = [name for name in _declared(schema) if name in able]
    structs = [name for name in able if pa.types.is_struct(schema.field(name).type)]
    geometry = _GEOMETRY_NAMES | {name.lower() for name in _geo_columns(schema)}
    plain = [name for name in able if name not in structs and name.lower() not in geometry]
    for candidates in (declared, structs, plain):
        if not candidates:
            continue
        if len(candidates) == 1:
            return candidates[0]
        named = [name for name in candidates if name.lower() in _IMAGE_NAMES]
        if len(named) == 1:
            return named[0]
        raise SourceError(
            f"several columns could be the image column: {_names(candidates)}. Choose one of these "
            "columns with sources.image_column"
        )
    raise NoImageColumnError(
        "the file has no image column (binary, or a struct with a binary field 'bytes'): the "
        f"file's columns are {_names(schema.names)}"
    )


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_binary(kind.value_type)
    if pa.types.is_struct(kind):
        return any(inner.name == "bytes" and _is_binary(inner.type) for inner in kind)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    )


def is_list(kind: pa.DataType) -> bool:
    """Return true if the values of a type are lists."""
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def is_text(kind: pa.DataType) -> bool:
    """Return true if the values of a type are strings."""
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _is_metadata(name: str, kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if _holds_images(kind) or pa.types.is_fixed_size_binary(kind):
        return False
    return name == _BBOX or not (is_list(kind) and pa.types.is_floating(kind.value_type))


def _declared(schema: pa.Schema) -> list[str]:
    """Return the names of the image columns that the Hugging Face metadata in the file declares."""
    features = _json(schema, b"huggingface").get("info", {})
    features = features.get("features", {}) if isinstance(features, dict) else {}
    if not isinstance(features, dict):
        return []
    return [
        name
        for name, kind in features.items()
        if isinstance(kind, dict) and kind.get("_type") == "Image"
    ]


def _geo_columns(schema: pa.Schema) -> dict[str, Any]:
    """Return the GeoParquet metadata of each geometry column. The keys are column names."""
    columns = _json(schema, b"geo").get("columns", {})
    return columns if isinstance(columns, dict) else {}


def _geometry(schema: pa.Schema, image: str) -> str | None:
    """Return the name of the geometry column.

    Return None if there is no geometry column, or if several columns could be this column.
    """
    able = [f.name for f in schema if f.name != image and _is_binary(f.type)]
    primary = _json(schema, b"geo").get("primary_column")
    if primary in able:
        return str(primary)
    named = [name for name in able if name.lower() in _GEOMETRY_NAMES]
    return named[0] if len(named) == 1 else None


def _other_crs(schema: pa.Schema, geometry: str | None) -> str | None:
    """Return the name of a geometry's coordinate reference system. None if it uses degrees."""
    encoding = _geo_columns(schema).get(geometry or "", {})
    crs = encoding.get("crs") if isinstance(encoding, dict) else None
    if crs is None:
        return None  # the default of GeoParquet is longitude and latitude
    if isinstance(crs, dict):
        is_of_degrees = crs.get("type") in ("GeographicCRS", "GeodeticCRS")
        return None if is_of_degrees else str(crs.get("name"))
    # In GeoParquet versions before 1.0, the reference system is a WKT string.
    text = str(crs)
    return None if text.upper().startswith(_DEGREES) else text.partition(",")[0]


def _json(schema: pa.Schema, key: bytes) -> dict[str, Any]:
    try:
        value = json.loads((schema.metadata or {}).get(key, b"{}"))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _names(names: Iterable[str]) -> str:
    shown = [repr(name) for name in names]
    return ", ".join(shown[:12]) + (f" and {len(shown) - 12} more" if len(shown) > 12 else "")
