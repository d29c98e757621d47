"""Settle earlier units, and find the rows without a vector.

INPUT    the table, and the model of the vectors.
OUTPUT   `PreparedVectors`: the version to start from, and the rows to do, in groups.
FAN-OUT  one task.
ON ERROR the run ends before any model is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from skytext.run.control.driver_node import run_on_driver_node
from skytext.table.commits.adoption import settle
from skytext.table.commits.change_columns import activate_column
from skytext.table.commits.claim import Claim
from skytext.table.images_dataset import ImagesTable
from skytext.table.missing_vectors import count_without_vector, num_with_vector
from skytext.table.vector_columns import VectorColumn


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Fragments whose column is written together, when all their rows are done.

    Attributes:
        name: name of the group.
        fragment_ids: fragment ids in the version that the run starts from.
        num_images: number of rows to do.
    """

    name: str
    fragment_ids: tuple[int, ...]
    num_images: int


@dataclass(frozen=True, slots=True)
class PreparedVectors:
    """The starting point of a run.

    Attributes:
        version: the version to start from.
        text_column: active column of caption vectors.
        num_ok: number of described images.
        num_there: those that already have a vector by this run's model.
        num_adopted: those whose vectors an earlier run staged and did not commit.
        groups: the rows to do.
    """

    version: int
    text_column: VectorColumn
    num_ok: int
    num_there: int
    num_adopted: int
    groups: tuple[RowGroup, ...]


def prepare_vectors(claim: Claim, column: VectorColumn, group_images: int) -> PreparedVectors:
    """Fence off a dead run, commit its staged units, and find the rows to do.

    Args:
        claim: claim of this run.
        column: the column to fill; its ``dim`` is not known yet.
        group_images: number of images that completes a group.

    Raises:
        TableError: the table has an old format.
        JobError: a store request failed.
    """
    return run_on_driver_node(_prepare, claim, column, group_images)


def _prepare(claim: Claim, column: VectorColumn, group_images: int) -> PreparedVectors:
    table = ImagesTable.open(claim.location)
    text_column, (_, num_before) = table.text_column, num_with_vector(table, column)
    adoption = settle(claim, text_column, vectors=column)
    table = ImagesTable.open(claim.location, adoption.version)
    num_ok, num_there = num_with_vector(table, column)
    return PreparedVectors(
        table.version,
        text_column,
        num_ok,
        num_there,
        num_there - num_before,
        tuple(group_fragments(count_without_vector(table, column), group_images)),
    )


def group_fragments(num_images: Mapping[int, int], group_images: int) -> list[RowGroup]:
    """Group fragments with about ``group_images`` images; small fragments share a commit.

    Args:
        num_images: number of images to do, by fragment.
        group_images: number of images that completes a group.
    """
    groups: list[RowGroup] = []
    for fragment_id, number in num_images.items():
        last = groups.pop() if groups and groups[-1].num_images < group_images else None
        if last is None:
            last = RowGroup(f"vectors-{len(groups)}", (), 0)
        ids = (*last.fragment_ids, fragment_id)
        groups.append(RowGroup(last.name, ids, last.num_images + number))
    return groups


def finish_vectors(claim: Claim, column: VectorColumn, num_without: int) -> tuple[int, int, int]:
    """Count the vectors, and activate the column if only ``num_without`` rows have none.

    Args:
        claim: claim of this run.
        column: the column that this run fills.
        num_without: permitted number of rows without a vector.

    Returns:
        The version, the number of described images, and the number of those with a vector.
    """
    return run_on_driver_node(_finish, claim, column, num_without)


def _finish(claim: Claim, column: VectorColumn, num_without: int) -> tuple[int, int, int]:
    table = ImagesTable.open(claim.location)
    num_ok, num_there = num_with_vector(table, column)
    if num_there and num_there + num_without == num_ok:
        claim.check()
        table = activate_column(table, column)
    return table.version, num_ok, num_there
