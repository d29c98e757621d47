"""Settings for searches."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from skytext.config.section import PositiveInt, Section


class SearchConfig(Section):
    """Settings for the default ranking of images.

    The measurements are in docs/reference/retrieval.md.
    """

    mode: Literal["dense", "text", "hybrid"] = Field(
        "hybrid",
        description="Method of ranking. `hybrid` ranks by vectors and by words. `dense` ranks "
        "only by vectors, and `text` ranks only by words. On every validation set, "
        "`hybrid` was the best method. If a search has no words, or if the table has "
        "no full-text index, `dense` is used instead of `hybrid`.",
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
        description="Number of candidate images that each method finds in a hybrid search. One "
        "method finds the images with the best vector scores, and the other method "
        "finds the images with the best word scores. All these images then get both "
        "scores. If 5 × k is larger than this number, 5 × k is used. A higher number "
        "did not change the results in measurements.",
    )
    duplicate_cosine: float = Field(
        0.98,
        gt=0,
        le=1,
        description="Two images are near-duplicates if the cosine of their mean vectors is at "
        "least this value. Identical files are always near-duplicates. The setting "
        "applies only if near-duplicates are grouped.",
    )
