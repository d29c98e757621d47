"""Settings of searches."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from skytext.config.section import PositiveInt, Section


class SearchConfig(Section):
    """The default ranking of images; docs/reference/retrieval.md has the figures."""

    mode: Literal["dense", "text", "hybrid"] = Field(
        "hybrid",
        description="hybrid uses vectors and words; it was better than either alone on every "
        "validation set. If a search has no words or the table has no full-text "
        "index, dense is used.",
    )
    dense_pooling: Literal["max", "mean", "max+mean"] = Field(
        "max",
        description="How the cosines of the variants become one score in dense searches; max is "
        "the rule of the paper.",
    )
    hybrid_pooling: Literal["max", "mean", "max+mean"] = Field(
        "max+mean", description="The same for hybrid searches."
    )
    text_weight: float = Field(
        0.2,
        ge=0,
        le=10,
        description="Weight of BM25 in hybrid searches; the weight of the vectors is 1.",
    )
    num_candidates: PositiveInt = Field(
        50,
        description="Images of each list (or 5 × k, if that is more) that are scored by both "
        "methods in a hybrid search. A higher value changed no answer.",
    )
    duplicate_cosine: float = Field(
        0.98,
        gt=0,
        le=1,
        description="If near-duplicates are grouped: images whose mean vectors have at least "
        "this cosine are near-duplicates, and identical files are too.",
    )
