"""Verify the result of a captioning run. If the result is wrong, raise an error."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

from skytext.archive import Shard
from skytext.errors import IncompleteRunError
from skytext.run.control.prepare_table import Prepared
from skytext.run.plans.caption_plan import CaptionPlan
from skytext.run.progress import Progress
from skytext.run.proof.compare_rows import Question, ShardMet, prove
from skytext.run.proof.walk_headers import HeaderWalk, sample_shards, walk_shards
from skytext.table.id_sums import IdSum


def prove_rows(
    plan: CaptionPlan, prepared: Prepared, version: int | None, progress: Progress
) -> int:
    """Verify that every image has one row.

    Shards that were not read to their ends are not checked.

    Returns:
        The number of stale rows.

    Raises:
        IncompleteRunError: an image has no row or several rows, or the counts of a shard differ
            from its manifest.
    """
    met: list[ShardMet] = []
    settled: list[tuple[Shard, IdSum]] = []
    for planned in prepared.shards:
        shard = planned.shard
        if not planned.must_read:
            settled += [] if plan.retry_failed else [(shard, planned.ids)]
        elif not progress.is_unread(shard):
            num_listed, num_units = progress.met(shard)
            met.append(ShardMet(shard, num_listed, None if planned.by_rows else num_units))
    question = Question(
        plan.location,
        version,
        prepared.version,
        plan.caption_fingerprint,
        only_rows=plan.retry_failed,
    )
    proof = prove(question, met, settled)
    progress.add_proof(proof)
    if proof.num_double:
        raise IncompleteRunError(
            f"{proof.num_double:,} images of {plan.location.uri} have more than one row. To remove "
            f"the additional rows, run: skytext repair {shlex.quote(plan.location.uri)}"
        )
    _check(proof.wrong, len(prepared.shards))
    return proof.num_stale


def prove_headers(
    plan: CaptionPlan,
    prepared: Prepared,
    progress: Progress,
    seed: str | None,
    *,
    num_tasks: int,
    on_wait: Callable[[], None],
) -> None:
    """Compare the headers of shards with their manifests.

    Args:
        plan: plan of the run.
        prepared: the starting point of the run.
        progress: the final progress of the run.
        seed: seed of the random sample. The sample is taken from the shards that the run read. None
            to check all shards that have a manifest.
        num_tasks: maximum number of concurrent tasks.
        on_wait: called every second. This function may raise an error to end the check.

    Raises:
        IncompleteRunError: the headers of a shard differ from its manifest.
    """
    planned = prepared.shards
    read = [one.shard for one in planned if not one.by_rows and progress.was_read(one.shard)]
    if seed is None:
        # A run of ``retry-failed`` does not read every shard. A shard that it did not read may have
        # no manifest, and is then not checked.
        left = (one for one in planned if one.is_known and (one.by_rows or not one.must_read))
        shards = read + [one.shard for one in left]
    else:
        shards = sample_shards(read, seed)
    walk = HeaderWalk(plan.location, plan.limits, plan.reading)
    num_cpus = plan.config.job.read_cpus
    wrong = walk_shards(walk, shards, num_tasks=num_tasks, num_cpus=num_cpus, on_wait=on_wait)
    _check(wrong, len(shards))


def _check(wrong: Sequence[str], num_shards: int) -> None:
    if wrong:
        raise IncompleteRunError(
            f"{len(wrong)} of {num_shards} shards may be incomplete ({'; '.join(wrong[:3])}). To "
            "process these shards, run the same command again"
        )
