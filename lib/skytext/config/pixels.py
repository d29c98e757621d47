"""Settings for images: size limits, and the pixels that the model receives."""

from __future__ import annotations

from pydantic import Field, field_validator

from skytext.config.section import PositiveInt, Section


class ImageConfig(Section):
    """Size limits for images, and the pixels that the model receives."""

    max_pixels: PositiveInt = Field(
        178_956_970,
        description="Maximum number of pixels of an image. A larger image is refused before it is "
        "decoded. The default is the limit of the library Pillow.",
    )
    min_side_px: PositiveInt = Field(
        8,
        description="Minimum length of each side of an image, in pixels. An image with a shorter "
        "side is refused.",
    )
    max_side_px: PositiveInt = Field(
        2048,
        description="Maximum length of each side of an image, in pixels. A larger image is scaled "
        "down, because no model uses more pixels, and because the smaller image needs "
        "fewer bytes.",
    )
    max_member_bytes: PositiveInt = Field(
        256 * 2**20,
        description="Maximum size of an image file. Larger files in a shard are not read. This "
        "limits the memory use of the reading tasks.",
    )
    bands: tuple[PositiveInt, ...] | None = Field(
        None,
        description="Numbers of the TIFF bands that are used as red, green and blue. The first "
        "band has number 1. For example, use `[3, 2, 1]` for files with the band "
        "order BGR, and `[4, 3, 2]` for files with all bands of Sentinel-2. If only "
        "one number is given, this band is used as a grey image. null: the first "
        "three bands are used. The setting applies only to TIFF files. It has no "
        "effect on TIFF files with a palette or with CMYK colours.",
    )

    @field_validator("bands")
    @classmethod
    def _check_bands(cls, bands: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if bands is not None and len(bands) not in (1, 3):
            raise ValueError("must be one or three band numbers, for example [4, 3, 2]")
        return bands
