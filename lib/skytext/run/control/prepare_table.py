"""Bring the table into order, and decide what there is to do: the first task of every run.

INPUT    the table, the sources' shards, and whether the last run let go of its claim.
OUTPUT   `Prepared`: the version to start from, and a plan for every shard.
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
from skytext.run.control.content_ledger import Ledger
from skytext.run.control.driver_node import run_and_refer
from skytext.run.worklist import PlanOptions, ShardPlan, open_index, plan_shards
from skytext.table.commits.adoption import Adoption, settle
from skytext.table.commits.claim import Claim
from skytext.table.runs_dataset import RunRecord, record_run
from skytext.table.vector_columns import VectorColumn


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a run starts from.

    Attributes:
        adoption: what became of the units that an earlier run had staged.
        shards: the plan of every shard.
        num_gone_with_shard: rows of shards that the sources no longer hold.
        described: a reference to the contents that have a description: bytes (N,), sorted, the
            first 16 bytes of their hashes. Workers fetch it, the driver never does.
        ledger: says which image describes which content, once the run is about to describe some.
        only: the images of this pass; None for all.
    """

    adoption: Adoption
    shards: tuple[ShardPlan, ...]
    num_gone_with_shard: int = 0
    described: Any = None
    ledger: Ledger | None = None
    only: frozenset[str] | None = None

    @property
    def version(self) -> int | None:
        """The version to start from; None where there is no table yet."""
        return self.adoption.version


def prepare(
    claim: Claim,
    column: VectorColumn,
    shards: Sequence[Shard],
    options: PlanOptions,
    run: RunRecord,
) -> Prepared:
    """Fence off a run that died, adopt what it had staged, and judge every shard, on the cluster.

    Args:
        claim: of this run.
        column: of the vectors of this run's rows.
        shards: what the sources hold.
        options: what the run is for.
        run: its record, written before it does anything.

    Raises:
        TableError: the table is of another model.
        JobError: the store refuses.
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
