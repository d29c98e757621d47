"""The vector indexes of a version, their measured recall, and the search settings.

There is one for caption vectors and one for image vectors. The measurements are stored in the
table's configuration, which every version has. They are removed before an index is built, and
stored again after it is measured. Searches ignore an index without measurements.
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


# Recall is measured on this many nearest images.
NEIGHBOURS = 10


_FACTS_KEY = "skytext.vector_index"


_FACTS_PREFIX = "skytext.facts_of."
_CHANCE_PREFIX = "skytext.chance_score_of."


@dataclass(frozen=True, slots=True)
class Probing:
    """How many partitions and candidates a search reads.

    Attributes:
        nprobes: number of partitions.
        refine_factor: number of exactly scored candidates, as a multiple of k.
        effort: Lance's ``search_effort``, 0 to 1. It replaces ``nprobes``: Lance reads all
            partitions with a distance similar to the nearest one; a higher value reads more.
            None: ``nprobes`` for every query.
    """

    nprobes: int
    refine_factor: int
    effort: float | None = None

    def num_candidates(self, k: int) -> int:
        """Return how many images are scored exactly to find the best ``k``.

        Recall is measured on ten images, so a smaller ``k`` is treated as ten.
        """
        return max(k, NEIGHBOURS) * self.refine_factor

    def partitions(self) -> dict[str, Any]:
        """Return the arguments of Lance's ``nearest`` that select the partitions."""
        if self.effort is None:
            return {"nprobes": self.nprobes}
        return {"search_effort": self.effort}

    def widened(self, part: float, num_partitions: int) -> Probing:
        """Return the settings for a search in a part (0 to 1) of the rows.

        By the root: recall then equals that without a filter (docs/reference/retrieval.md).
        Distances of partitions do not help: rows in them may not have passed the filter.
        """
        nprobes = min(num_partitions, math.ceil(self.nprobes / math.sqrt(part)))
        return Probing(max(nprobes, self.nprobes), self.refine_factor)


@dataclass(frozen=True, slots=True)
class VectorIndexFacts:
    """Properties and measurements of a vector index.

    Attributes:
        kind: Lance's name of the index type.
        num_partitions: number of IVF partitions.
        num_bits: see `VectorPlan`.
        nprobes: number of partitions that a filtered search reads; also used for every other
            search if ``search_effort`` is None.
        refine_factor: number of exactly scored candidates, as a multiple of k.
        recall_at_10: part of the ten nearest images that the index finds.
        num_queries: number of queries in the measurement.
        num_rows: number of indexed images.
        search_effort: see `Probing`; for searches without a filter.
        num_trained_rows: number of indexed images at the last full build; None if the index was
            not refreshed since then.
        num_untrained: rows added since the last full build, including replaced ones.
        num_unmeasured: rows added since the last measurement.
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
        """Return the search settings: the measured ones, or those of the configuration."""
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
    """Return the index names of a data set."""
    return {index.name for index in _indexes(dataset)}


def _indexes(dataset: lance.LanceDataset) -> Iterator[Any]:
    """Yield the indexes, except those on dropped columns and those that searches do not use."""
    listed = json.loads((dataset.schema.metadata or {}).get(COLUMNS_KEY.encode(), b"null"))
    active = None if listed is None else {c["name"] for c in listed if c["role"] == Role.ACTIVE}
    names = set(dataset.schema.names)
    if active is not None:
        names = {name for name in names if name in active or not is_vector_name(name)}
    for index in dataset.describe_indices():
        # A nested field has a path as its name.
        if {name.partition(".")[0] for name in index.field_names} <= names:
            yield index


def num_segments(dataset: lance.LanceDataset, name: str) -> int:
    """Return the number of segments of an index; 0 without it."""
    return sum(len(index.segments) for index in _indexes(dataset) if index.name == name)


def uncovered_fragments(dataset: lance.LanceDataset, name: str) -> tuple[int, ...]:
    """Return the ids of the fragments that an index does not cover; all without it."""
    covered: set[int] = set()
    for index in _indexes(dataset):
        if index.name == name:
            for segment in index.segments:
                covered |= set(segment.fragment_ids)
    ids = (fragment.fragment_id for fragment in dataset.get_fragments())
    return tuple(fragment_id for fragment_id in ids if fragment_id not in covered)


def is_covered(dataset: lance.LanceDataset, name: str) -> bool:
    """Return whether an index exists and covers every fragment."""
    return not uncovered_fragments(dataset, name)


def read_facts(dataset: lance.LanceDataset, index: str = VECTOR_INDEX) -> VectorIndexFacts | None:
    """Return the stored facts of a vector index; None if it was not measured."""
    stored = dataset.config().get(_facts_key(index))
    if stored is None or index not in index_names(dataset):
        return None
    known = {field.name for field in fields(VectorIndexFacts)}
    # A later release may have stored more fields.
    return VectorIndexFacts(**{k: v for k, v in json.loads(stored).items() if k in known})


def store_facts(
    dataset: lance.LanceDataset, facts: VectorIndexFacts, index: str = VECTOR_INDEX
) -> None:
    """Store the facts of a vector index. Creates a version."""
    dataset.update_config({_facts_key(index): json.dumps(facts.to_json())})


def forget_facts(dataset: lance.LanceDataset, index: str = VECTOR_INDEX) -> None:
    """Remove the facts of a vector index before it is replaced or dropped."""
    if _facts_key(index) in dataset.config():
        dataset.delete_config_keys([_facts_key(index)])


def _facts_key(index: str) -> str:
    # Older releases used one key for the only index.
    return _FACTS_KEY if index == VECTOR_INDEX else _FACTS_PREFIX + index


@dataclass(frozen=True, slots=True)
class ChanceScore:
    """The scores of the best images for unrelated questions, in one vector column.

    Attributes:
        score: the ``quantile`` of the best scores.
        quantile: 0 to 1.
        num_questions: number of questions in the measurement.
    """

    score: float
    quantile: float
    num_questions: int


def read_chance_score(dataset: lance.LanceDataset, column: str) -> ChanceScore | None:
    """Return the measurement for a vector column; None without one."""
    stored = dataset.config().get(_CHANCE_PREFIX + column)
    return None if stored is None else ChanceScore(**json.loads(stored))


def store_chance_score(dataset: lance.LanceDataset, column: str, chance: ChanceScore) -> None:
    """Store the measurement for a vector column. Creates a version."""
    dataset.update_config({_CHANCE_PREFIX + column: json.dumps(asdict(chance))})


def prewarm(dataset: lance.LanceDataset, *others: str) -> None:
    """Load the indexes on the captions, and the named others, into memory."""
    for name in index_names(dataset) & {VECTOR_INDEX, TEXT_INDEX, *others}:
        dataset.prewarm_index(name)
