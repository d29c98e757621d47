"""Settings of the indexes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from skytext.config.section import Fraction, PositiveInt, Section

VectorIndexKind = Literal[
    "auto", "IVF_RQ", "IVF_PQ", "IVF_SQ", "IVF_FLAT", "IVF_HNSW_SQ", "IVF_HNSW_PQ", "IVF_HNSW_FLAT"
]
# Those for which Lance has stems and stop words.
# fmt: off
Language = Literal[
    "Arabic", "Danish", "Dutch", "English", "Finnish", "French", "German", "Greek", "Hungarian",
    "Italian", "Norwegian", "Portuguese", "Romanian", "Russian", "Spanish", "Swedish", "Tamil",
    "Turkish",
]
# fmt: on


class IndexConfig(Section):
    """Which indexes a table gets."""

    vector: Literal["auto", "always", "never"] = Field(
        "auto", description="auto: from exact_below_rows rows on; below, exact search is as fast."
    )
    exact_below_rows: int = Field(
        10_000, ge=0, description="Exact search over 10,000 × 5 vectors takes well under a second."
    )
    kind: VectorIndexKind = Field(
        "auto",
        description="auto: IVF_RQ (RaBitQ), by far the cheapest to build at equal recall; IVF_SQ "
        "where the vectors' dimension is no multiple of 8.",
    )
    num_partitions: PositiveInt | None = Field(
        None, description="null: half of the root of the number of vectors."
    )
    num_bits: int | None = Field(
        None,
        ge=1,
        le=9,
        description="Bits of RaBitQ for each number of a vector; null: 3, or 1 where the index "
        "would take more than half of the memory.",
    )
    nprobes: PositiveInt | None = Field(
        None,
        description="Partitions every query looks into; null: as few as find target_recall, "
        "measured when the index is built, and by search_effort where there is no filter.",
    )
    search_effort: float | None = Field(
        None,
        ge=0,
        le=1,
        description="How many partitions a query without a filter looks into: those about as near "
        "as the nearest one, at 0.5 as Lance chooses, at 1 all; null: measured like nprobes.",
    )
    refine_factor: PositiveInt | None = Field(
        None,
        description="Candidates re-scored exactly, times k (times 10 for a smaller k); null: "
        "measured like nprobes.",
    )
    target_recall: Fraction = Field(
        0.99, description="recall@10 against exact search that these are chosen for."
    )
    min_recall: float = Field(
        0.98, ge=0, le=1, description="An index that finds less is dropped, and the build fails."
    )
    recall_queries: PositiveInt = Field(
        256,
        description="Queries on which recall is measured: half to choose by, half to judge by; "
        "enough to tell 0.98 from 0.99.",
    )
    max_segments: PositiveInt = Field(
        8,
        description="A refreshed vector index gets a segment for new rows, each of which costs "
        "every search a little; from so many on they are merged.",
    )
    remeasure_growth: float = Field(
        0.05, gt=0, description="New rows, as a share, from which recall is measured again."
    )
    rebuild_growth: float = Field(
        0.5, gt=0, description="New rows, as a share, from which the vector index is built anew."
    )
    measure_chance: bool = Field(
        True,
        description="Measure how high questions about other subjects score, so that searches can "
        "say that nothing fits well. The table's embedding models are loaded for it.",
    )
    language: Language = Field(
        "English",
        description="Of the descriptions: their words are found by the stems of this language.",
    )
    num_workers: PositiveInt | None = Field(
        None, description="Ray tasks that build an index on a cluster; null: one a node."
    )
