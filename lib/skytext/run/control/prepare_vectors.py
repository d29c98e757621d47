"""Commit or delete the staged units of an earlier run, and find the rows without a vector.

INPUT    the table, and the vector column to fill.
OUTPUT   `PreparedVectors`. It contains the table version to start from, and groups of rows without
         a vector.
FAN-OUT  one task.
ON ERROR the run ends before any model is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from skytext.run.cluster.driver_node import run_on_driver_node
from skytext.table.commits.adoption import settle
from skytext.table.commits.change_columns import activate_column
from skytext.table.commits.claim import Claim
from skytext.table.images_dataset import ImagesTable
from skytext.table.rows.missing_vectors import count_without_vector, num_with_vector
from skytext.table.vector_columns import VectorColumn


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Fragments of the table whose new vectors are written in one commit.

    The commit is made when all rows of these fragments are embedded.

    Attributes:
        name: name of the group.
        fragment_ids: ids of the fragments in the table version that the run starts from.
        num_images: number of rows without a vector in these fragments.
    """

    name: str
    fragment_ids: tuple[int, ...]
    num_images: int


@dataclass(frozen=True, slots=True)
class PreparedVectors:
    """The starting point of a run that fills a vector column.

    Attributes:
        version: the table version to start from.
        text_column: the active column of caption vectors.
        num_ok: number of described images.
        num_there: number of described images that already have a vector in the column to fill.
        num_adopted: number of images whose vectors an interrupted run had staged and this run has
            committed. These images are included in ``num_there``.
        groups: groups of rows without a vector.
    """

    version: int
    text_column: VectorColumn
    num_ok: int
    num_there: int
    num_adopted: int
    groups: tuple[RowGroup, ...]


def prepare_vectors(claim: Claim, column: VectorColumn, group_images: int) -> PreparedVectors:
    """Commit the staged units of an earlier run, and find the rows without a vector.

    If the process of the earlier run is still running, its commits fail after this call.

    Args:
        claim: the claim that this run holds on the table.
        column: the vector column to fill. The ``dim`` of this column is not known yet.
        group_images: minimum number of images in a group. Only the last group may be smaller.

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
    """Combine fragments into groups. The vectors of a group are committed together.

    Args:
        num_images: number of images without a vector, by fragment id.
        group_images: minimum number of images in a group. Only the last group may be smaller.
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
    """Count the vectors. If exactly ``num_without`` images have no vector, activate the column.

    Args:
        claim: the claim that this run holds on the table.
        column: the vector column that this run fills.
        num_without: expected number of described images without a vector.

    Returns:
        The table version, the number of described images, and the number of described images that
        have a vector.
    """
    return run_on_driver_node(_finish, claim, column, num_without)


def _finish(claim: Claim, column: VectorColumn, num_without: int) -> tuple[int, int, int]:
    table = ImagesTable.open(claim.location)
    num_ok, num_there = num_with_vector(table, column)
    if num_there and num_there + num_without == num_ok:
        claim.check()
        table = activate_column(table, column)
    return table.version, num_ok, num_there
