"""Check every image and convert it to the captioner's input format.

INPUT    units of `skytext.table.schema.SAMPLE` rows with bytes.
OUTPUT   the same units with content_sha256, width_px, height_px and format. The output contains no
         decoded arrays, because ``data`` stays encoded. ``data`` is encoded again only if a decoder
         would read the original bytes incorrectly.
FAN-OUT  one input unit gives one output unit.
ON ERROR if an image cannot be decoded, or if the hash of its bytes differs from the hash in its
         row, the image gets a ``failure``, and its ``data`` becomes null.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from skytext.errors import Reason, SampleError, Stage
from skytext.pixels.decode import ImageLimits, normalise
from skytext.run.units import failure_row, pack, unpack
from skytext.table.schema import SAMPLE


@dataclass(frozen=True, slots=True)
class ImageDecoder:
    """A stage that decodes the images of a unit.

    Attributes:
        limits: limits for accepted images.
    """

    limits: ImageLimits

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Check and convert the images of a unit; return the unit."""
        head, samples = unpack(batch)
        decoded = [self._decode(row) for row in samples.to_pylist()]
        rows = [row for row, _ in decoded]
        if self.limits.bands is None:
            num_many = sum(num_bands is not None and num_bands > 3 for _, num_bands in decoded)
            head = dataclasses.replace(head, num_many_bands=num_many)
        return pack(head, pa.Table.from_pylist(rows, schema=SAMPLE))

    def _decode(self, row: dict[str, Any]) -> tuple[dict[str, Any], int | None]:
        """Return the row, and the number of bands of the image.

        The number of bands is None if the decoder did not have to choose bands.
        """
        if row["failure"] is not None:
            return row, None
        try:
            image = normalise(row["data"], self.limits)
            _check_same(row, image.info.content_sha256)
        except SampleError as error:
            return row | {"data": None, "failure": failure_row(error)}, None
        row |= {
            "data": image.data,
            "content_sha256": image.info.content_sha256,
            "width_px": image.info.width_px,
            "height_px": image.info.height_px,
            "format": image.info.format,
        }
        return row, image.info.num_bands


def _check_same(row: dict[str, Any], content: str) -> None:
    """Check that the hash of the image's bytes equals the hash in the row.

    Raises:
        SampleError: the row has a hash, and this hash differs from the hash of the bytes.
    """
    if row["content_sha256"] not in (None, content):
        detail = f"{row['uri']} has changed since its table row was written"
        raise SampleError(Stage.READ, Reason.CHANGED, detail)
