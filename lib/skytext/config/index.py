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
        description="When to build a vector index. `auto`: a vector index is built if the "
        "table has at least `exact_below_rows` rows. In a smaller table, exact "
        "search is as fast as the index.",
    )
    exact_below_rows: int = Field(
        10_000,
        ge=0,
        description="Minimum number of rows at which `vector: auto` builds a vector index. If "
        "the table has fewer rows, every search is exact. An exact search of "
        "10,000 rows with 5 vectors each takes much less than a second.",
    )
    kind: VectorIndexKind = Field(
        "auto",
        description="Kind of the vector index. `auto`: IVF_RQ (RaBitQ) if the dimension of the "
        "vectors is a multiple of 8, and IVF_SQ in all other cases. At the same "
        "recall, IVF_RQ needs the least work to build.",
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
        description="Number of bits that RaBitQ stores for each dimension of a vector. null: 3 "
        "bits, but 1 bit if an index with 3 bits would need more than half of the "
        "machine's memory.",
    )
    nprobes: PositiveInt | None = Field(
        None,
        description="Number of partitions that every query searches. null: the index build "
        "measures the smallest number that reaches `target_recall`. In this case the "
        "number is used only for queries with a filter. Queries without a filter use "
        "`search_effort`.",
    )
    search_effort: float | None = Field(
        None,
        ge=0,
        le=1,
        description="A value from 0 to 1 that controls how many partitions a query without a "
        "filter searches. Lance chooses the partitions by their distance to the "
        "query. 0.5 is Lance's default. With 1, all partitions are searched. null: "
        "the index build measures the smallest value that reaches `target_recall`.",
    )
    refine_factor: PositiveInt | None = Field(
        None,
        description="Number of candidates that get an exact score, as a multiple of the number of "
        "hits. A search for k images computes k × `refine_factor` exact scores. If k "
        "is below 10, the search computes 10 × `refine_factor` exact scores. null: "
        "the index build measures the smallest value that reaches `target_recall`.",
    )
    target_recall: Fraction = Field(
        0.99,
        description="Recall@10 that the index must reach with the settings that the index build "
        "measures. Recall is the share of the results of an exact search that the "
        "index also finds.",
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
        description="Number of queries that measure recall. The index build chooses the "
        "settings with half of the queries, and checks the settings with the other "
        "half. With 256 queries, a recall of 0.98 can be distinguished from a "
        "recall of 0.99.",
    )
    max_segments: PositiveInt = Field(
        8,
        description="If the vector index has this number of segments, the next refresh merges "
        "them. Each refresh adds one segment for the new rows. Each segment makes "
        "every search slightly slower.",
    )
    remeasure_growth: float = Field(
        0.05,
        gt=0,
        description="Number of new rows at which the recall is measured again, as a share of the "
        "rows at the last measurement. The new rows are the rows that were added to the index "
        "after this measurement.",
    )
    rebuild_growth: float = Field(
        0.5,
        gt=0,
        description="Growth of the table at which the vector index is built again. With 0.5, the "
        "index is built again if the table has more than 1.5 times as many rows as at "
        "the last build.",
    )
    measure_chance: bool = Field(
        True,
        description="Whether to measure the scores that unrelated queries get in this table. A "
        "search needs these scores to report that no image matches well. The "
        "measurement loads the embedding models of the table.",
    )
    language: Language = Field(
        "English",
        description="Language of the descriptions. The full-text index reduces words to their "
        "stems in this language.",
    )
    num_workers: PositiveInt | None = Field(
        None,
        description="Number of Ray tasks that build an index on a cluster. null: one task for "
        "each node.",
    )
