"""Export the images of a table as a GeoJSON FeatureCollection (RFC 7946)."""

from __future__ import annotations

from typing import Any, BinaryIO

from skytext.export.image_json import COLUMNS, described, rows, to_line
from skytext.table.images_dataset import ImagesTable
from skytext_client.geojson import geometry


def write_geojson(table: ImagesTable, out: BinaryIO) -> int:
    """Write one line for each image. Each line is a GeoJSON feature.

    If an image has no bounding box, the geometry of its feature is null.
    """
    out.write(b'{"type":"FeatureCollection","features":[\n')
    count = 0
    for row in rows(table, COLUMNS):
        out.write((b"," if count else b"") + to_line(feature(described(row))))
        count += 1
    out.write(b"]}\n")
    return count


def feature(image: dict[str, Any]) -> dict[str, Any]:
    """Convert the result of `described` to a GeoJSON feature."""
    box = image["bbox"]
    made: dict[str, Any] = {"type": "Feature", "id": image["image_id"]}
    if box is not None:
        made["bbox"] = box
    names = (name for name in image if name not in ("image_id", "bbox"))
    return made | {
        "geometry": None if box is None else geometry(*box),
        "properties": {name: image[name] for name in names},
    }
