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
        10_000, ge=0, description="Exact search over 10,000 × 5 vectors takes well under a second."
    )
    kind: VectorIndexKind = Field(
        "auto",
        description="auto: IVF_RQ (RaBitQ), by far the cheapest to build at equal recall; IVF_SQ "
        "if the dimension is not a multiple of 8.",
    )
    num_partitions: PositiveInt | None = Field(
        None, description="null: half of the square root of the number of vectors."
    )
    num_bits: int | None = Field(
        None,
        ge=1,
        le=9,
        description="RaBitQ bits per vector element; null: 3, or 1 if the index would use more "
        "than half of the memory.",
    )
    nprobes: PositiveInt | None = Field(
        None,
        description="Partitions read by every query; null: the fewest that reach target_recall "
        "when the index is built, and search_effort for queries without a filter.",
    )
    search_effort: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Selects the partitions of a query without a filter by their distance: 0.5 is "
        "Lance's choice, 1 is all of them. null: measured like nprobes.",
    )
    refine_factor: PositiveInt | None = Field(
        None,
        description="Candidates with exact scores, as a multiple of k (at least of 10). null: "
        "measured like nprobes.",
    )
    target_recall: Fraction = Field(
        0.99, description="Required recall@10 against exact search for these measurements."
    )
    min_recall: float = Field(
        0.98, ge=0, le=1, description="An index with a lower recall is dropped; the build fails."
    )
    recall_queries: PositiveInt = Field(
        256,
        description="Queries for the recall measurement: half to choose, half to validate. This is "
        "enough to distinguish 0.98 from 0.99.",
    )
    max_segments: PositiveInt = Field(
        8,
        description="A refresh adds a segment for new rows, and each segment slows every search a "
        "little. From this number on, segments are merged.",
    )
    remeasure_growth: float = Field(
        0.05, gt=0, description="Share of new rows from which recall is measured again."
    )
    rebuild_growth: float = Field(
        0.5, gt=0, description="Share of new rows from which the vector index is rebuilt."
    )
    measure_chance: bool = Field(
        True,
        description="Measure the scores of unrelated questions, so that searches can report that "
        "no image fits well. Loads the table's embedding models.",
    )
    language: Language = Field(
        "English",
        description="Language of the descriptions, for the stems of the full-text index.",
    )
    num_workers: PositiveInt | None = Field(
        None, description="Ray tasks that build an index on a cluster; null: one per node."
    )
