"""Settings for the indexes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from skytext.config.section import Fraction, PositiveInt, Section

VectorIndexKind = Literal[
    "auto", "IVF_RQ", "IVF_PQ", "IVF_SQ", "IVF_FLAT", "IVF_HNSW_SQ", "IVF_HNSW_PQ", "IVF_HNSW_FLAT"
]
# The languages for which Lance supports stemming and has lists of stop words.
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
        "auto",
        description="When to build a vector index. `auto`: if the table has at least "
        "`exact_below_rows` rows, because exact search is as fast in a smaller table.",
    )
    exact_below_rows: int = Field(
        10_000,
        ge=0,
        description="Minimum number of rows at which `vector: auto` builds a vector index. With "
        "fewer rows every search is exact. An exact search over 10,000 × 5 vectors takes much less "
        "than a second.",
    )
    kind: VectorIndexKind = Field(
        "auto",
        description="Kind of the vector index. `auto`: IVF_RQ (RaBitQ), because at equal recall "
        "its build needs the least work; IVF_SQ if the dimension of the vectors is not a multiple "
        "of 8.",
    )
    num_partitions: PositiveInt | None = Field(
        None,
        description="Number of partitions of the vector index. null: half of the square root of "
        "the number of vectors.",
    )
    num_bits: int | None = Field(
        None,
        ge=1,
        le=9,
        description="Number of bits that RaBitQ stores for each number of a vector. null: 3 bits, "
        "or 1 bit if the index with 3 bits would need more than half of the memory.",
    )
    nprobes: PositiveInt | None = Field(
        None,
        description="Number of partitions that every query searches. null: the index build "
        "measures the smallest number that reaches `target_recall`; queries without a filter use "
        "`search_effort` instead.",
    )
    search_effort: float | None = Field(
        None,
        ge=0,
        le=1,
        description="How many partitions a query without a filter searches. Lance chooses the "
        "partitions by their distance. 0.5 is Lance's default; 1 means all partitions. null: the "
        "index build measures the value, as for `nprobes`.",
    )
    refine_factor: PositiveInt | None = Field(
        None,
        description="Number of candidates that get an exact score, as a multiple of k. If k is "
        "below 10, it is a multiple of 10. null: the index build measures the value, as for "
        "`nprobes`.",
    )
    target_recall: Fraction = Field(
        0.99,
        description="Recall@10, compared with exact search, that the measured settings must reach.",
    )
    min_recall: float = Field(
        0.98,
        ge=0,
        le=1,
        description="Minimum recall@10. An index with a lower recall is deleted, and the build "
        "fails.",
    )
    recall_queries: PositiveInt = Field(
        256,
        description="Number of queries that measure recall. Half of the queries select the "
        "settings, and the other half check them. 256 queries can distinguish a recall of 0.98 "
        "from 0.99.",
    )
    max_segments: PositiveInt = Field(
        8,
        description="Number of segments at which the segments of the vector index are merged. Each "
        "refresh adds one segment for the new rows, and each segment makes every search a little "
        "slower.",
    )
    remeasure_growth: float = Field(
        0.05,
        gt=0,
        description="Recall is measured again if more than this share of the rows is new.",
    )
    rebuild_growth: float = Field(
        0.5,
        gt=0,
        description="The vector index is built again if more rows were added since the last build "
        "than this share of the rows that the build used.",
    )
    measure_chance: bool = Field(
        True,
        description="Whether to measure the scores of queries about unrelated subjects. With these "
        "scores, a search can report that no image matches well. The measurement loads the "
        "embedding models of the table.",
    )
    language: Language = Field(
        "English",
        description="Language of the descriptions. The full-text index uses the word stems of this "
        "language.",
    )
    num_workers: PositiveInt | None = Field(
        None,
        description="Number of Ray tasks that build an index on a cluster. null: one for each "
        "node.",
    )
