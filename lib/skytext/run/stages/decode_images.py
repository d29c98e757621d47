"""Check every image and bring it into the form that the captioner takes.

INPUT    units of `skytext.table.schema.SAMPLE` rows as read.
OUTPUT   the same with content_sha256, width_px, height_px, format; ``data`` stays encoded (decoded
         arrays never travel) and is rewritten only where the original would mislead a decoder.
FAN-OUT  one unit to one unit.
ON ERROR an image that cannot be decoded gets its ``failure`` and loses its ``data``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from skytext.errors import SampleError
from skytext.pixels.decode import ImageLimits, normalise
from skytext.run.stages.read_shards import failure_row
from skytext.run.units import pack, unpack
from skytext.table.schema import SAMPLE


@dataclass(frozen=True, slots=True)
class ImageDecoder:
    """Decodes the images of a unit.

    Attributes:
        limits: what is accepted.
    """

    limits: ImageLimits

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return the unit with its images checked."""
        head, samples = unpack(batch)
        rows = [self._decode(row) for row in samples.to_pylist()]
        return pack(head, pa.Table.from_pylist(rows, schema=SAMPLE))

    def _decode(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["failure"] is not None:
            return row
        try:
            image = normalise(row["data"], self.limits)
        except SampleError as error:
            return row | {"data": None, "failure": failure_row(error)}
        return row | {
            "data": image.data,
            "content_sha256": image.info.content_sha256,
            "width_px": image.info.width_px,
            "height_px": image.info.height_px,
            "format": image.info.format,
        }
