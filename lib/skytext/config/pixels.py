"""Settings of the pixels: limits for images, and the pixels for the model."""

from __future__ import annotations

from pydantic import Field, field_validator

from skytext.config.section import PositiveInt, Section


class ImageConfig(Section):
    """Limits for images, and the pixels for the model."""

    max_pixels: PositiveInt = Field(
        178_956_970,
        description="A larger image is refused by its header. The default is Pillow's limit.",
    )
    min_side_px: PositiveInt = Field(8, description="A smaller image is refused.")
    max_side_px: PositiveInt = Field(
        2048,
        description="A larger image is scaled down: no model uses more pixels, and fewer bytes "
        "are sent.",
    )
    max_member_bytes: PositiveInt = Field(
        256 * 2**20,
        description="A larger file in a shard is not read: this limits the memory of a reader.",
    )
    bands: tuple[PositiveInt, ...] | None = Field(
        None,
        description="Bands of a TIFF for red, green and blue, counted from 1: `[3, 2, 1]` for "
        "files in the order BGR, `[4, 3, 2]` for all bands of Sentinel-2. One "
        "number: this band as grey. null: the first three. Other formats, palettes "
        "and inks are not affected.",
    )

    @field_validator("bands")
    @classmethod
    def _check_bands(cls, bands: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if bands is not None and len(bands) not in (1, 3):
            raise ValueError("must be one or three band numbers, e.g. [4, 3, 2]")
        return bands
