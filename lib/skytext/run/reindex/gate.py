"""Check the conditions that a version must meet before it is promoted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from skytext.config.settings import Config
from skytext.run.cluster.driver_node import run_on_driver_node
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import IMAGE_VECTOR_INDEX, VECTOR_INDEX, read_facts
from skytext.table.indexes.build_indexes import num_unindexed_rows
from skytext.table.location import TableLocation

_INDEXES = {VECTOR_INDEX: "the vector index", IMAGE_VECTOR_INDEX: "the image vector index"}


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one condition.

    Attributes:
        name: name of the condition.
        found: the measured value.
        wanted: the requirement as a string, such as ``at most 0.05``.
        passed: whether the measured value meets the requirement.
    """

    name: str
    found: float
    wanted: str
    passed: bool

    def __str__(self) -> str:
        return f"{self.name}: {self.found:g}, required: {self.wanted}"

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return asdict(self)


def check_version(location: TableLocation, version: int, config: Config) -> list[Check]:
    """Check the conditions for a promotion, in a worker process; return the results.

    Args:
        location: the table.
        version: the version to promote.
        config: the settings. They contain the limits.
    """
    return run_on_driver_node(_check_version, location, version, config)


def _check_version(location: TableLocation, version: int, config: Config) -> list[Check]:
    table = ImagesTable.open(location, version)
    return [*_row_checks(table, config), *_index_checks(table, config)]


def _row_checks(table: ImagesTable, config: Config) -> Iterator[Check]:
    counts, limit = table.status_counts(), config.reindex.max_failure_rate
    num_done = counts["ok"] + counts["failed"]
    rate = counts["failed"] / num_done if num_done else 0.0
    yield Check("share of failed rows", round(rate, 4), f"at most {limit:g}", rate <= limit)
    num_double = len(table.double_rows())
    yield Check("images with more than one row", num_double, "0", num_double == 0)


def _index_checks(table: ImagesTable, config: Config) -> Iterator[Check]:
    for index, name in _INDEXES.items():
        num_uncovered, facts = num_unindexed_rows(table, index), read_facts(table.dataset, index)
        if num_uncovered is None:
            continue
        yield Check(f"rows that {name} does not cover", num_uncovered, "0", num_uncovered == 0)
        recall, floor = 0.0 if facts is None else facts.recall_at_10, config.index.min_recall
        yield Check(f"recall@10 of {name}", recall, f"at least {floor:g}", recall >= floor)
