"""Settings for searches."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from skytext.config.section import PositiveInt, Section


class SearchConfig(Section):
    """The default ranking of images. docs/reference/retrieval.md has the measurements."""

    mode: Literal["dense", "text", "hybrid"] = Field(
        "hybrid",
        description="`hybrid` ranks by vectors and by words. On every validation set it was better "
        "than `dense` (only vectors) and `text` (only words). If a search has no words, or the "
        "table has no full-text index, `dense` is used.",
    )
    dense_pooling: Literal["max", "mean", "max+mean"] = Field(
        "max",
        description="How the cosines of an image's variants are combined to one score in dense "
        "searches. The RSRT paper uses `max`.",
    )
    hybrid_pooling: Literal["max", "mean", "max+mean"] = Field(
        "max+mean",
        description="How the cosines of an image's variants are combined to one score in hybrid "
        "searches.",
    )
    text_weight: float = Field(
        0.2,
        ge=0,
        le=10,
        description="Weight of the BM25 score in hybrid searches. The weight of the vector score "
        "is 1.",
    )
    num_candidates: PositiveInt = Field(
        50,
        description="In a hybrid search, the best images by vectors and the best images by words "
        "are scored by both methods. This is the number of images from each list; if 5 × k is "
        "larger, 5 × k is used. In measurements, a higher value did not change the results.",
    )
    duplicate_cosine: float = Field(
        0.98,
        gt=0,
        le=1,
        description="Minimum cosine between the mean vectors of two images at which the images "
        "are near-duplicates. Identical files are always near-duplicates. The setting applies "
        "only if near-duplicates are grouped.",
    )
