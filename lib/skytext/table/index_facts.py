"""The vector indexes that a version of a table has, what was measured of them, and how to search.

There are two, on the descriptions' vectors and on the images' own. What was measured of one is
stored in the table's configuration, which travels with every version. It is taken away before an
index is built and put back when that index has been measured: an index without it was never
measured, and is not used.
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
    """How far a search by an index looks.

    Attributes:
        nprobes: partitions.
        refine_factor: candidates scored exactly, times k.
        effort: Lance's ``search_effort``, 0 to 1: as many partitions as lie about as near to the
            query as the nearest one, more of them the higher it is, in place of ``nprobes``; None:
            ``nprobes`` for every query.
    """

    nprobes: int
    refine_factor: int
    effort: float | None = None

    def num_candidates(self, k: int) -> int:
        """Return how many images to score exactly for the best ``k``.

        What an index finds is measured on ten: fewer are looked for as ten are.
        """
        return max(k, NEIGHBOURS) * self.refine_factor

    def partitions(self) -> dict[str, Any]:
        """Return the argument of Lance's ``nearest`` that says which partitions are looked into."""
        if self.effort is None:
            return {"nprobes": self.nprobes}
        return {"search_effort": self.effort}

    def widened(self, part: float, num_partitions: int) -> Probing:
        """Return it for a search among a part of the rows, over 0 to 1.

        By the root: recall then equals that without a filter (docs/reference/retrieval.md).
        Distances of partitions do not help: rows in them may not have passed the filter.
        """
        nprobes = min(num_partitions, math.ceil(self.nprobes / math.sqrt(part)))
        return Probing(max(nprobes, self.nprobes), self.refine_factor)


@dataclass(frozen=True, slots=True)
class VectorIndexFacts:
    """What is known of one of a table's vector indexes.

    Attributes:
        kind: as Lance names it.
        num_partitions: of the IVF part.
        num_bits: see `VectorPlan`.
        nprobes: partitions that a search with a filter looks into, and every search where there is
            no ``search_effort``.
        refine_factor: candidates scored exactly, times k.
        recall_at_10: part of the ten nearest images of a query that the index finds.
        num_queries: on which that was measured.
        num_rows: images that were in the index.
        search_effort: see `Probing`; of searches without a filter.
        num_trained_rows: images that were in the index when it was built; None where it was not
            refreshed since.
        num_untrained: rows that were added since it was built, replaced ones too.
        num_unmeasured: rows that were added since it was measured.
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
        """Return how far a search looks: as was measured, or as the configuration has it."""
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
    """Return the names of a data set's indexes."""
    return {index.name for index in _indexes(dataset)}


def _indexes(dataset: lance.LanceDataset) -> Iterator[Any]:
    """Yield the indexes, but for those on columns that are gone, or that searches do not use."""
    listed = json.loads((dataset.schema.metadata or {}).get(COLUMNS_KEY.encode(), b"null"))
    active = None if listed is None else {c["name"] for c in listed if c["role"] == Role.ACTIVE}
    names = set(dataset.schema.names)
    if active is not None:
        names = {name for name in names if name in active or not is_vector_name(name)}
    for index in dataset.describe_indices():
        # Of a field of a struct the name is a path.
        if {name.partition(".")[0] for name in index.field_names} <= names:
            yield index


def num_segments(dataset: lance.LanceDataset, name: str) -> int:
    """Return how many segments the index of a name has; 0 without it."""
    return sum(len(index.segments) for index in _indexes(dataset) if index.name == name)


def uncovered_fragments(dataset: lance.LanceDataset, name: str) -> tuple[int, ...]:
    """Return the ids of the fragments that the index of a name does not cover; all without it."""
    covered: set[int] = set()
    for index in _indexes(dataset):
        if index.name == name:
            for segment in index.segments:
                covered |= set(segment.fragment_ids)
    ids = (fragment.fragment_id for fragment in dataset.get_fragments())
    return tuple(fragment_id for fragment_id in ids if fragment_id not in covered)


def is_covered(dataset: lance.LanceDataset, name: str) -> bool:
    """Return whether there is an index of a name that covers every fragment."""
    return not uncovered_fragments(dataset, name)


def read_facts(dataset: lance.LanceDataset, index: str = VECTOR_INDEX) -> VectorIndexFacts | None:
    """Return what is known of a vector index; None where there is none that was measured."""
    stored = dataset.config().get(_facts_key(index))
    if stored is None or index not in index_names(dataset):
        return None
    known = {field.name for field in fields(VectorIndexFacts)}
    # Another release may have stored more.
    return VectorIndexFacts(**{k: v for k, v in json.loads(stored).items() if k in known})


def store_facts(
    dataset: lance.LanceDataset, facts: VectorIndexFacts, index: str = VECTOR_INDEX
) -> None:
    """Store what is known of a vector index: makes a version."""
    dataset.update_config({_facts_key(index): json.dumps(facts.to_json())})


def forget_facts(dataset: lance.LanceDataset, index: str = VECTOR_INDEX) -> None:
    """Take away what is known of a vector index that is about to be replaced or dropped."""
    if _facts_key(index) in dataset.config():
        dataset.delete_config_keys([_facts_key(index)])


def _facts_key(index: str) -> str:
    # The first index had one to itself before there was a second.
    return _FACTS_KEY if index == VECTOR_INDEX else _FACTS_PREFIX + index


@dataclass(frozen=True, slots=True)
class ChanceScore:
    """How high the best images of unrelated questions score, by the vectors of one column.

    Attributes:
        score: what ``quantile`` of the questions stay below.
        quantile: 0 to 1.
        num_questions: that were measured.
    """

    score: float
    quantile: float
    num_questions: int


def read_chance_score(dataset: lance.LanceDataset, column: str) -> ChanceScore | None:
    """Return what was measured of a column of vectors; None where nothing was."""
    stored = dataset.config().get(_CHANCE_PREFIX + column)
    return None if stored is None else ChanceScore(**json.loads(stored))


def store_chance_score(dataset: lance.LanceDataset, column: str, chance: ChanceScore) -> None:
    """Store what was measured of a column of vectors: makes a version."""
    dataset.update_config({_CHANCE_PREFIX + column: json.dumps(asdict(chance))})


def prewarm(dataset: lance.LanceDataset, *others: str) -> None:
    """Load the indexes on the descriptions into memory, and others that are named."""
    for name in index_names(dataset) & {VECTOR_INDEX, TEXT_INDEX, *others}:
        dataset.prewarm_index(name)
