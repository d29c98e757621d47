"""Withdraw the images that are no longer in their archives.

INPUT    the claim of the run, the current shards of the sources, and the options of the plan.
OUTPUT   `Withdrawn`.
FAN-OUT  one task.
ON ERROR no image is withdrawn, or only some images are withdrawn. The next run withdraws the
         remaining images.

Images are withdrawn only from archives that were listed completely. If a shard is unreadable, its
images are not withdrawn, because the content of the shard is unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from skytext.archive import Shard
from skytext.errors import BrokenListingError
from skytext.run.cluster.driver_node import run_on_driver_node
from skytext.run.worklist import PlanOptions, RowIndex, open_index, plan_shards
from skytext.table.commits.claim import Claim, check_claim
from skytext.table.commits.withdraw_rows import withdraw_rows
from skytext.table.id_sums import id_texts
from skytext.table.images_dataset import ImagesTable
from skytext.table.shards.manifest import forget_manifest

_REASON = "the archive no longer has this image"


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The result of a withdrawal.

    Attributes:
        num_images: number of withdrawn images.
        version: the table version after the withdrawal; None if there is no table.
    """

    num_images: int = 0
    version: int | None = None


def check_listing(
    claim: Claim, shards: Sequence[Shard], options: PlanOptions, max_share: float
) -> None:
    """Raise an error if too many images are missing from the sources. Do not change the table.

    Args:
        claim: the claim that this run holds on the table.
        shards: the current shards of the sources.
        options: options of the plan. They contain the archives that were listed completely.
        max_share: maximum share of missing images in each of these archives, from 0 to 1.

    Raises:
        BrokenListingError: the share of missing images in an archive is larger than ``max_share``.
    """
    run_on_driver_node(_check, claim, tuple(shards), options, max_share)


def withdraw_gone(
    claim: Claim, shards: Sequence[Shard], options: PlanOptions, max_share: float, run_id: str
) -> Withdrawn:
    """Withdraw the images that are no longer in their archives.

    Args:
        claim: the claim that this run holds on the table.
        shards: the current shards of the sources.
        options: options of the plan. They contain the archives that were listed completely.
        max_share: see `check_listing`.
        run_id: the run id that is written to the rows of the withdrawn images.

    Raises:
        BrokenListingError: too many images are missing. No image was withdrawn.
        CommitConflictError: another process committed without holding the claim.
    """
    return run_on_driver_node(_withdraw, claim, tuple(shards), options, max_share, run_id)


def _withdraw(
    claim: Claim, shards: tuple[Shard, ...], options: PlanOptions, max_share: float, run_id: str
) -> Withdrawn:
    gone, gone_shards = _check(claim, shards, options, max_share)
    table = ImagesTable.find(claim.location)
    if table is None or not gone:
        return Withdrawn(version=None if table is None else table.version)
    check = partial(check_claim, claim.location, claim.number)
    # Delete the manifests before the rows are withdrawn, because a repeated call finds the missing
    # shards only by rows that are not withdrawn.
    for archive, shard in gone_shards:
        forget_manifest(claim.location, archive, shard)
    return Withdrawn(len(gone), withdraw_rows(table, gone, run_id, _REASON, check))


def _check(
    claim: Claim, shards: tuple[Shard, ...], options: PlanOptions, max_share: float
) -> tuple[list[str], list[tuple[str, str]]]:
    """Find the missing images, and check their number.

    Returns:
        The ids of the missing images, and the archive and the path of each missing shard.

    Raises:
        BrokenListingError: too many images are missing.
    """
    table = ImagesTable.find(claim.location)
    if table is None:
        return [], []
    index = open_index(claim.location, table.version, shards, options)
    gone, ids = _gone(claim, index, shards, options)
    for archive, number in gone.items():
        num_images = table.num_present(archive)
        if number > max_share * num_images:
            raise BrokenListingError(
                f"{number:,} of {num_images:,} images of the archive {archive!r} are missing from "
                f"its source. This share is larger than reindex.max_withdrawn ({max_share:g}), so "
                "no image of the table was withdrawn. If the images were really removed from the "
                "source, raise the limit with --max-withdrawn"
            )
    return ids, list(index.gone_shards)


def _gone(
    claim: Claim, index: RowIndex, shards: tuple[Shard, ...], options: PlanOptions
) -> tuple[Counter[str], list[str]]:
    """Return the number of missing images by archive, and the ids of all missing images."""
    gone: Counter[str] = Counter()
    for (archive, _), number in index.gone_shards.items():
        gone[archive] += number
    ids = list(index.gone_ids)
    for plan in plan_shards(claim.location, index, shards, options):
        if len(plan.gone) and plan.shard.archive in options.whole_archives:
            gone[plan.shard.archive] += len(plan.gone)
            ids.append(plan.gone)
    return gone, id_texts(np.concatenate(ids)) if ids else []
