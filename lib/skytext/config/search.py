"""Settings of searches."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from skytext.config.section import PositiveInt, Section


class SearchConfig(Section):
    """How images are ranked, where a search does not say it; docs/retrieval.md has the figures."""

    mode: Literal["dense", "text", "hybrid"] = Field(
        "hybrid",
        description="hybrid: vectors and words; it was better than either on every validation set. "
        "dense where a search has no words or the table no full-text index.",
    )
    dense_pooling: Literal["max", "mean", "max+mean"] = Field(
        "max", description="Of a variant's cosines in dense searches; max is the paper's rule."
    )
    hybrid_pooling: Literal["max", "mean", "max+mean"] = Field(
        "max+mean", description="The same in hybrid searches."
    )
    text_weight: float = Field(
        0.2, ge=0, le=10, description="What BM25 counts in hybrid searches; the vectors count 1."
    )
    num_candidates: PositiveInt = Field(
        50,
        description="Images of each list that are scored by both in a hybrid search, or 5 × k: "
        "more changed no answer.",
    )
    duplicate_cosine: float = Field(
        0.98,
        gt=0,
        le=1,
        description="Images whose mean vectors are this near count as near-duplicates where those "
        "are grouped; so do identical files.",
    )
