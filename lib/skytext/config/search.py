"""Settings of searches."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from skytext.config.section import PositiveInt, Section


class SearchConfig(Section):
    """Defaults for the ranking of a search; docs/retrieval.md has the measurements."""

    mode: Literal["dense", "text", "hybrid"] = Field(
        "hybrid",
        description="hybrid: vectors and words, better than either on every validation set. dense "
        "is used if a search has no words or the table no full-text index.",
    )
    dense_pooling: Literal["max", "mean", "max+mean"] = Field(
        "max", description="Pooling of variant cosines in dense searches; max is the paper's rule."
    )
    hybrid_pooling: Literal["max", "mean", "max+mean"] = Field(
        "max+mean", description="Pooling in hybrid searches."
    )
    text_weight: float = Field(
        0.2, ge=0, le=10, description="Weight of BM25 in hybrid searches; vectors have weight 1."
    )
    num_candidates: PositiveInt = Field(
        50,
        description="Candidates per list that a hybrid search scores with both, or 5 × k: more "
        "changed no result.",
    )
    duplicate_cosine: float = Field(
        0.98,
        gt=0,
        le=1,
        description="Images with mean vectors at least this similar are near-duplicates, and so "
        "are identical files, for searches that group duplicates.",
    )
