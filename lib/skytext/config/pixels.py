"""Settings of the pixels: what is accepted as an image, and what the model gets to see."""

from __future__ import annotations

from pydantic import Field

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
