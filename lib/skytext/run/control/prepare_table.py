"""Commit or delete the staged units of an earlier run, and determine the work of this run.

This is the first task of every captioning run.

INPUT    the table, the shards of the sources, and the claim of this run.
OUTPUT   `Prepared`. It contains the table version to start from, and a plan for every shard.
FAN-OUT  one task.
ON ERROR the run ends before any model is loaded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytext.archive import Shard
from skytext.run.cluster.driver_node import run_and_refer
from skytext.run.control.content_ledger import Ledger
from skytext.run.worklist import PlanOptions, ShardPlan, open_index, plan_shards
from skytext.table.commits.adoption import Adoption, settle
from skytext.table.commits.claim import Claim
from skytext.table.runs_dataset import RunRecord, record_run
from skytext.table.vector_columns import VectorColumn


@dataclass(frozen=True, slots=True)
class Prepared:
    """The starting point of a run.

    Attributes:
        adoption: the number of staged rows of an earlier run that were committed or deleted, and
            the table version after that.
        shards: the plan of every shard.
        num_gone_with_shard: number of rows whose shard is no longer in the sources.
        described: Ray reference to an array, dtype S16, shape (N,), sorted. The array contains the
            first 16 bytes of the hash of each content that has a description. Workers fetch the
            array. The driver does not fetch it.
        ledger: the object that decides, for each content, which image is described. It is set
            before the first pass.
        only: ids of the images that this pass processes; None for all images.
    """

    adoption: Adoption
    shards: tuple[ShardPlan, ...]
    num_gone_with_shard: int = 0
    described: Any = None
    ledger: Ledger | None = None
    only: frozenset[str] | None = None

    @property
    def version(self) -> int | None:
        """The table version to start from; None if there is no table."""
        return self.adoption.version


def prepare(
    claim: Claim,
    column: VectorColumn,
    shards: Sequence[Shard],
    options: PlanOptions,
    run: RunRecord,
) -> Prepared:
    """Commit or delete the staged units of an earlier run, and determine the work in every shard.

    This work is done in a worker process. If the process of the earlier run is still running, its
    commits fail after this call.

    Args:
        claim: the claim that this run holds on the table.
        column: vector column of the rows that this run writes.
        shards: shards of the sources.
        options: options of the plan.
        run: the record of this run. It is written to the table if this run has work to do.

    Raises:
        TableError: the embedding model of the table differs from the embedding model of this run.
        JobError: a store request failed.
    """
    found, described = run_and_refer(_prepare, claim, column, tuple(shards), options, run)
    return dataclasses.replace(found, described=described)


def _prepare(
    claim: Claim,
    column: VectorColumn,
    shards: tuple[Shard, ...],
    options: PlanOptions,
    run: RunRecord,
) -> tuple[Prepared, NDArray[np.bytes_]]:
    location = claim.location
    adoption = settle(claim, column, options.caption_fingerprint)
    index = open_index(location, adoption.version, shards, options)
    plans = tuple(plan_shards(location, index, shards, options))
    if adoption.num_adopted or any(plan.must_read for plan in plans):
        record_run(location, run)
    return Prepared(adoption, plans, index.gone_shards.total()), index.described
