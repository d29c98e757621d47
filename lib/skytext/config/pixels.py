"""Settings of the pixels: what is accepted as an image, and what the model gets to see."""

from __future__ import annotations

from pydantic import Field, field_validator

from skytext.config.section import PositiveInt, Section


class ImageConfig(Section):
    """What is accepted as an image, and the pixels that the model gets to see."""

    max_pixels: PositiveInt = Field(
        178_956_970, description="Larger images are refused from their header: Pillow's own limit."
    )
    min_side_px: PositiveInt = Field(8, description="Smaller images say nothing.")
    max_side_px: PositiveInt = Field(
        2048, description="Larger images are scaled down: no model looks closer, and bytes travel."
    )
    max_member_bytes: PositiveInt = Field(
        256 * 2**20,
        description="A larger file in a shard is not read: it bounds a reader's memory.",
    )
    bands: tuple[PositiveInt, ...] | None = Field(
        None,
        description="Bands of a TIFF to show as red, green and blue, counted from 1: `[3, 2, 1]` "
        "for files in the order BGR, `[4, 3, 2]` for all bands of Sentinel-2; one number: that "
        "band as grey; null: the first three. Other formats, palettes and inks have colours of "
        "their own.",
    )

    @field_validator("bands")
    @classmethod
    def _check_bands(cls, bands: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if bands is not None and len(bands) not in (1, 3):
            raise ValueError("must be one or three band numbers, e.g. [4, 3, 2]")
        return bands
