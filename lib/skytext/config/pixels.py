"""Settings for images: size limits, and the pixels that the model receives."""

from __future__ import annotations

from pydantic import Field, field_validator

from skytext.config.section import PositiveInt, Section


class ImageConfig(Section):
    """Size limits for images, and the pixels that the model receives."""

    max_pixels: PositiveInt = Field(
        178_956_970,
        description="Maximum number of pixels. A larger image is refused before it is decoded. The "
        "default is Pillow's limit.",
    )
    min_side_px: PositiveInt = Field(
        8, description="Minimum length of each side. An image with a shorter side is refused."
    )
    max_side_px: PositiveInt = Field(
        2048,
        description="Maximum length of each side. A larger image is scaled down, because no model "
        "uses more pixels, and the smaller image needs fewer bytes.",
    )
    max_member_bytes: PositiveInt = Field(
        256 * 2**20,
        description="Maximum size of an image file. A larger file in a shard is not read, so that "
        "a reader does not need more memory.",
    )
    bands: tuple[PositiveInt, ...] | None = Field(
        None,
        description="Numbers of the TIFF bands for red, green and blue. The first band has number "
        "1. Examples: `[3, 2, 1]` for files with the band order BGR; `[4, 3, 2]` for files with "
        "all bands of Sentinel-2. If there is only one number, this band is used as grey. null: "
        "the first three bands. The setting does not apply to other formats, or to TIFFs with a "
        "palette or CMYK inks.",
    )

    @field_validator("bands")
    @classmethod
    def _check_bands(cls, bands: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if bands is not None and len(bands) not in (1, 3):
            raise ValueError("must be one or three band numbers, for example [4, 3, 2]")
        return bands
