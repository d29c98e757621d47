"""Settings of the indexes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from skytext.config.section import Fraction, PositiveInt, Section

VectorIndexKind = Literal[
    "auto", "IVF_RQ", "IVF_PQ", "IVF_SQ", "IVF_FLAT", "IVF_HNSW_SQ", "IVF_HNSW_PQ", "IVF_HNSW_FLAT"
]
# The languages for which Lance has stems and stop words.
# fmt: off
Language = Literal[
    "Arabic", "Danish", "Dutch", "English", "Finnish", "French", "German", "Greek", "Hungarian",
    "Italian", "Norwegian", "Portuguese", "Romanian", "Russian", "Spanish", "Swedish", "Tamil",
    "Turkish",
]
# fmt: on


class IndexConfig(Section):
    """The indexes of a table."""

    vector: Literal["auto", "always", "never"] = Field(
        "auto", description="auto: from exact_below_rows rows on. Below, exact search is as fast."
    )
    exact_below_rows: int = Field(
        10_000,
        ge=0,
        description="Exact search over 10,000 × 5 vectors takes much less than a second.",
    )
    kind: VectorIndexKind = Field(
        "auto",
        description="auto: IVF_RQ (RaBitQ), which has the cheapest build at equal recall; "
        "IVF_SQ if the dimension of the vectors is no multiple of 8.",
    )
    num_partitions: PositiveInt | None = Field(
        None, description="null: half of the square root of the number of vectors."
    )
    num_bits: int | None = Field(
        None,
        ge=1,
        le=9,
        description="Bits of RaBitQ for each number of a vector; null: 3, or 1 if the index "
        "would need more than half of the memory.",
    )
    nprobes: PositiveInt | None = Field(
        None,
        description="Number of partitions that every query searches. null: the smallest number "
        "that reaches target_recall, measured at the build; queries without a "
        "filter use search_effort.",
    )
    search_effort: float | None = Field(
        None,
        ge=0,
        le=1,
        description="How many partitions a query without a filter searches, chosen by distance: "
        "0.5 is Lance's default, 1 means all of them. null: measured like nprobes.",
    )
    refine_factor: PositiveInt | None = Field(
        None,
        description="Candidates re-scored exactly, as a multiple of k (at least of 10). null: "
        "measured like nprobes.",
    )
    target_recall: Fraction = Field(
        0.99, description="The measured settings reach this recall@10 against exact search."
    )
    min_recall: float = Field(
        0.98,
        ge=0,
        le=1,
        description="An index with a lower recall is dropped, and the build fails.",
    )
    recall_queries: PositiveInt = Field(
        256,
        description="Number of queries that measure recall: half of them select the settings, "
        "the other half check them. 256 can distinguish 0.98 from 0.99.",
    )
    max_segments: PositiveInt = Field(
        8,
        description="A refresh adds a segment to the vector index for new rows. Each segment "
        "slows every search a little. From this many on, they are merged.",
    )
    remeasure_growth: float = Field(
        0.05, gt=0, description="Recall is measured again when this share of the rows is new."
    )
    rebuild_growth: float = Field(
        0.5, gt=0, description="The vector index is rebuilt when this share of the rows is new."
    )
    measure_chance: bool = Field(
        True,
        description="Measure the scores of questions about unrelated subjects, so that searches "
        "can report that nothing fits well. This loads the embedding models of the "
        "table.",
    )
    language: Language = Field(
        "English",
        description="Language of the descriptions. The full-text index uses its stems.",
    )
    num_workers: PositiveInt | None = Field(
        None, description="Ray tasks that build an index on a cluster; null: one on each node."
    )
