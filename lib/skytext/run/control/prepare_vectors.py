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
from skytext.table.commits.claim import Claim
from skytext.table.image_vector_column import (
    ImageIdentity,
    check_same_model,
    count_without_vector,
    find_image_identity,
    num_with_vector,
)
from skytext.table.images_dataset import ImagesTable, TableIdentity
from skytext.table.location import TableLocation


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
        identity: what the rows of the table were made with.
        num_ok: images that are done.
        num_there: those of them that have a vector by this run's model.
        num_adopted: those of them that an earlier run had embedded and not committed.
        groups: the rows to be done.
    """

    version: int
    identity: TableIdentity
    num_ok: int
    num_there: int
    num_adopted: int
    groups: tuple[RowGroup, ...]


def prepare_vectors(
    claim: Claim, ours: ImageIdentity, *, replace: bool, group_images: int
) -> PreparedVectors:
    """Fence off a run that died, commit what it had staged, and find what there is to do.

    Args:
        claim: of this run.
        ours: of this run's model; its ``dim`` is not known yet.
        replace: whether vectors by another model may go.
        group_images: images from which a group is full.

    Raises:
        TableError: the table's images were embedded with another model.
        JobError: the store refuses.
    """
    return run_on_driver_node(_prepare, claim, ours, replace, group_images)


def _prepare(
    claim: Claim, ours: ImageIdentity, replace: bool, group_images: int
) -> PreparedVectors:
    table = ImagesTable.open(claim.location)
    there = find_image_identity(table)
    if there is not None and not replace:
        check_same_model(claim.location, there, ours)
    adoption = settle(claim, table.identity, image_fingerprint=ours.fingerprint)
    table = ImagesTable.open(claim.location, adoption.version)
    there = find_image_identity(table)
    num_ok, num_there = num_with_vector(table)
    if there is None or there.fingerprint != ours.fingerprint:
        num_there = 0
    return PreparedVectors(
        table.version,
        table.identity,
        num_ok,
        num_there,
        adoption.num_vectors_adopted,
        tuple(group_fragments(count_without_vector(table, ours.fingerprint), group_images)),
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
            last = RowGroup(f"group {len(groups)}", (), 0)
        ids = (*last.fragment_ids, fragment_id)
        groups.append(RowGroup(last.name, ids, last.num_images + number))
    return groups


def count_vectors(location: TableLocation, version: int) -> tuple[int, int]:
    """Return, on the cluster, how many images are done and how many of them have a vector."""
    return run_on_driver_node(_count, location, version)


def _count(location: TableLocation, version: int) -> tuple[int, int]:
    return num_with_vector(ImagesTable.open(location, version))
