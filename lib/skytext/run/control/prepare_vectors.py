"""Bring the table into order, and find the rows that have no vector yet.

INPUT    the table, and the model whose vectors are wanted.
OUTPUT   `PreparedVectors`: the version to start from, and the rows to be done, in groups.
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
    """Fragments whose column is written together, once all their rows are done.

    Attributes:
        name: of the group.
        fragment_ids: of the fragments, in the version that the run starts from.
        num_images: rows of them that are to be done.
    """

    name: str
    fragment_ids: tuple[int, ...]
    num_images: int


@dataclass(frozen=True, slots=True)
class PreparedVectors:
    """What a run starts from.

    Attributes:
        version: the version to start from.
        text_column: of the vectors of the table's descriptions.
        num_ok: images that are done.
        num_there: those of them that have a vector by this run's model.
        num_adopted: those of them that an earlier run had embedded and not committed.
        groups: the rows to be done.
    """

    version: int
    text_column: VectorColumn
    num_ok: int
    num_there: int
    num_adopted: int
    groups: tuple[RowGroup, ...]


def prepare_vectors(claim: Claim, column: VectorColumn, group_images: int) -> PreparedVectors:
    """Fence off a run that died, commit what it had staged, and find what there is to do.

    Args:
        claim: of this run.
        column: that this run fills; its ``dim`` is not known yet.
        group_images: images from which a group is full.

    Raises:
        TableError: the table is of an old format.
        JobError: the store refuses.
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
    """Return fragments in groups of so many images or a little more: small ones share a commit.

    Args:
        num_images: images to be done, by fragment.
        group_images: images from which a group is full.
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
    """Count the vectors, and let readers use the column if no other row is without one.

    Args:
        claim: of this run.
        column: that this run fills.
        num_without: rows that may be without a vector.

    Returns:
        The version, how many images are done, and how many of them have a vector.
    """
    return run_on_driver_node(_finish, claim, column, num_without)


def _finish(claim: Claim, column: VectorColumn, num_without: int) -> tuple[int, int, int]:
    table = ImagesTable.open(claim.location)
    num_ok, num_there = num_with_vector(table, column)
    if num_there and num_there + num_without == num_ok:
        claim.check()
        table = activate_column(table, column)
    return table.version, num_ok, num_there
