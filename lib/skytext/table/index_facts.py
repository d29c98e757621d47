"""Read and store the measured recall and the search settings of vector indexes.

A version may have an index on its caption vectors and an index on its image vectors. The
measurements of an index are stored in the table's configuration. Each version contains the
configuration. Before an index is built again, the old measurements are removed. After the new index
is measured, the new measurements are stored. Searches do not use an index without measurements.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

import lance

from skytext.config.index import IndexConfig
from skytext.table.vector_columns import COLUMNS_KEY, Role, is_vector_name

VECTOR_INDEX = "vectors_idx"


IMAGE_VECTOR_INDEX = "image_vector_idx"
TEXT_INDEX = "text_idx"


# Recall is measured with this number of nearest images for each query.
NEIGHBOURS = 10


_FACTS_KEY = "skytext.vector_index"


_FACTS_PREFIX = "skytext.facts_of."
_CHANCE_PREFIX = "skytext.chance_score_of."


@dataclass(frozen=True, slots=True)
class Probing:
    """The numbers of partitions and candidates that a search reads.

    Attributes:
        nprobes: number of partitions.
        refine_factor: number of exactly scored candidates, as a multiple of k.
        effort: the value of Lance's ``search_effort``, 0 to 1. If it is None, every query reads
            ``nprobes`` partitions. If it is set, ``nprobes`` is not used. Lance then reads every
            partition that is nearly as close to the query as the nearest partition. With a higher
            value, Lance reads more partitions.
    """

    nprobes: int
    refine_factor: int
    effort: float | None = None

    def num_candidates(self, k: int) -> int:
        """Return the number of images that are scored exactly to find the best ``k`` images.

        Recall is measured for ten images, so a smaller ``k`` is treated as ten.
        """
        return max(k, NEIGHBOURS) * self.refine_factor

    def partitions(self) -> dict[str, Any]:
        """Return the arguments for Lance's ``nearest`` that select the partitions."""
        if self.effort is None:
            return {"nprobes": self.nprobes}
        return {"search_effort": self.effort}

    def widened(self, part: float, num_partitions: int) -> Probing:
        """Return the settings for a filtered search.

        ``part`` is the share of the rows that pass the filter, 0 to 1. ``nprobes`` is divided by
        the square root of ``part``. The recall is then the same as without a filter
        (docs/reference/retrieval.md). ``effort`` is not used, because the nearest partitions may
        contain no row that passes the filter.
        """
        nprobes = min(num_partitions, math.ceil(self.nprobes / math.sqrt(part)))
        return Probing(max(nprobes, self.nprobes), self.refine_factor)


@dataclass(frozen=True, slots=True)
class VectorIndexFacts:
    """Properties and measurements of a vector index.

    Attributes:
        kind: name of the index type in Lance.
        num_partitions: number of IVF partitions.
        num_bits: number of bits, see `VectorPlan`.
        nprobes: number of partitions that a filtered search reads. If ``search_effort`` is None,
            every search reads this number of partitions.
        refine_factor: number of exactly scored candidates, as a multiple of k.
        recall_at_10: average share of the ten nearest images that a search with the index finds.
        num_queries: number of queries in the measurement.
        num_rows: number of indexed images.
        search_effort: value of ``Probing.effort`` for searches without a filter.
        num_trained_rows: number of indexed images at the last full build. It is None if the index
            was not refreshed after this build.
        num_untrained: number of rows that were added after the last full build. A replaced row also
            counts as added.
        num_unmeasured: number of rows that were added after the last measurement.
    """

    kind: str
    num_partitions: int
    num_bits: int | None
    nprobes: int
    refine_factor: int
    recall_at_10: float
    num_queries: int
    num_rows: int
    search_effort: float | None = None
    num_trained_rows: int | None = None
    num_untrained: int = 0
    num_unmeasured: int = 0

    def probing(self, config: IndexConfig) -> Probing:
        """Return the search settings. A value in the configuration replaces the measured value."""
        effort = self.search_effort if config.search_effort is None else config.search_effort
        return Probing(
            config.nprobes or self.nprobes,
            config.refine_factor or self.refine_factor,
            effort if config.nprobes is None else None,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return asdict(self)


def index_names(dataset: lance.LanceDataset) -> set[str]:
    """Return the names of those indexes of a data set that searches can use."""
    return {index.name for index in _indexes(dataset)}


def _indexes(dataset: lance.LanceDataset) -> Iterator[Any]:
    """Yield all indexes, except indexes on dropped columns and on inactive vector columns."""
    listed = json.loads((dataset.schema.metadata or {}).get(COLUMNS_KEY.encode(), b"null"))
    active = None if listed is None else {c["name"] for c in listed if c["role"] == Role.ACTIVE}
    names = set(dataset.schema.names)
    if active is not None:
        names = {name for name in names if name in active or not is_vector_name(name)}
    for index in dataset.describe_indices():
        # The name of a nested field is a path. The first part of the path is the name of the
        # column.
        if {name.partition(".")[0] for name in index.field_names} <= names:
            yield index


def num_segments(dataset: lance.LanceDataset, name: str) -> int:
    """Return the number of segments of an index; 0 if the index does not exist."""
    return sum(len(index.segments) for index in _indexes(dataset) if index.name == name)


def uncovered_fragments(dataset: lance.LanceDataset, name: str) -> tuple[int, ...]:
    """Return the ids of the fragments that an index does not cover.

    If the index does not exist, the ids of all fragments are returned.
    """
    covered: set[int] = set()
    for index in _indexes(dataset):
        if index.name == name:
            for segment in index.segments:
                covered |= set(segment.fragment_ids)
    ids = (fragment.fragment_id for fragment in dataset.get_fragments())
    return tuple(fragment_id for fragment_id in ids if fragment_id not in covered)


def is_covered(dataset: lance.LanceDataset, name: str) -> bool:
    """Return whether an index covers every fragment."""
    return not uncovered_fragments(dataset, name)


def read_facts(dataset: lance.LanceDataset, index: str = VECTOR_INDEX) -> VectorIndexFacts | None:
    """Return the stored facts of a vector index; None if the index has no stored facts."""
    stored = dataset.config().get(_facts_key(index))
    if stored is None or index not in index_names(dataset):
        return None
    known = {field.name for field in fields(VectorIndexFacts)}
    # A later release may have stored more fields.
    return VectorIndexFacts(**{k: v for k, v in json.loads(stored).items() if k in known})


def store_facts(
    dataset: lance.LanceDataset, facts: VectorIndexFacts, index: str = VECTOR_INDEX
) -> None:
    """Store the facts of a vector index. This creates a new version."""
    dataset.update_config({_facts_key(index): json.dumps(facts.to_json())})


def forget_facts(dataset: lance.LanceDataset, index: str = VECTOR_INDEX) -> None:
    """Remove the facts of a vector index. Call this before the index is replaced or dropped."""
    if _facts_key(index) in dataset.config():
        dataset.delete_config_keys([_facts_key(index)])


def _facts_key(index: str) -> str:
    # Older releases had only the index on caption vectors. They stored the facts of this index with
    # the key `_FACTS_KEY`.
    return _FACTS_KEY if index == VECTOR_INDEX else _FACTS_PREFIX + index


@dataclass(frozen=True, slots=True)
class ChanceScore:
    """The score that the best image gets by chance.

    It is measured with many unrelated queries, in one vector column. An unrelated query fits no
    image.

    Attributes:
        score: quantile of the best scores. The best score of a query is the score of its best
            image.
        quantile: level of this quantile, 0 to 1.
        num_questions: number of unrelated queries in the measurement.
    """

    score: float
    quantile: float
    num_questions: int


def read_chance_score(dataset: lance.LanceDataset, column: str) -> ChanceScore | None:
    """Return the chance score of a vector column; None if it was not measured."""
    stored = dataset.config().get(_CHANCE_PREFIX + column)
    return None if stored is None else ChanceScore(**json.loads(stored))


def store_chance_score(dataset: lance.LanceDataset, column: str, chance: ChanceScore) -> None:
    """Store the chance score of a vector column. This creates a new version."""
    dataset.update_config({_CHANCE_PREFIX + column: json.dumps(asdict(chance))})


def prewarm(dataset: lance.LanceDataset, *others: str) -> None:
    """Load the indexes on the caption vectors and on the text of the captions into memory.

    Args:
        dataset: the version.
        others: names of other indexes that are also loaded.
    """
    for name in index_names(dataset) & {VECTOR_INDEX, TEXT_INDEX, *others}:
        dataset.prewarm_index(name)
