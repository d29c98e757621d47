"""Show the work and the cost of a run before it starts. The table does not change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skytext.archive import Shard
from skytext.archive.ignored import count_kind
from skytext.run.plans.caption_plan import CaptionPlan
from skytext.run.pool_sizes import PoolSizes, pool_sizes
from skytext.run.worklist import Verdict, open_index, plan_shards
from skytext.table.clean_up import bytes_of_old_versions
from skytext.table.commits.stage_rows import staged_unit_ids
from skytext.table.images_dataset import ImagesTable
from skytext.table.rows.missing_vectors import num_with_vector
from skytext.table.runs_dataset import RunRecord, last_runs

_NUM_UNREAD_SHOWN = 10
_TO_DO = (Verdict.NEW, Verdict.CHANGED, Verdict.UNSURE)


@dataclass(frozen=True, slots=True)
class Preview:
    """The work of a run that has not started.

    Attributes:
        num_shards: number of shards in the sources.
        num_shards_to_read: number of shards that the run must read.
        num_images: number of images by `Verdict`. The keys are the names of the verdicts in lower
            case.
        ignored: number of files that are not images, by file kind, in the shards whose headers were
            read. The file kinds are defined in :mod:`skytext.archive.ignored`.
        num_gone: number of rows whose image or whose whole shard no longer exists. ``caption``
            keeps these rows, and ``reindex`` withdraws them.
        num_failed_due: number of failed images that ``retry-failed`` and ``reindex`` try again.
        num_old_versions: number of table versions that are older than the latest version.
        old_version_bytes: size in bytes of the files that only old versions need. Files of tagged
            versions are not counted.
        num_shards_gone: number of shards that have rows in the table and are no longer in the
            sources. Only archives that the sources contain completely are counted.
        num_unread: number of shards whose headers the store did not deliver. The images in these
            shards are unknown.
        unread: the errors of the store for up to ten of these shards.
        num_staged_units: number of staged units of an earlier run. The next run first commits or
            deletes these units.
        num_to_describe: maximum number of images to describe.
        num_to_embed: number of images to embed again with another model, by kind of vector.
        images_per_engine_s: number of images that one engine describes per second. It was measured
            in earlier runs with the same model. None if there was no such run.
        time_s: estimated time in seconds to describe the images with the configured number of
            engines; None if ``images_per_engine_s`` is None.
        engine_hours: estimated number of hours, as a sum over all engines; None if
            ``images_per_engine_s`` is None.
        cost: ``engine_hours`` times ``job.cost_per_engine_hour``; None if one of these values is
            None.
        pools: number of actors and tasks of each stage, if the cluster has enough resources.
    """

    num_shards: int
    num_shards_to_read: int
    num_images: dict[str, int]
    ignored: dict[str, int]
    num_failed_due: int
    num_gone: int
    num_shards_gone: int
    num_old_versions: int
    old_version_bytes: int
    num_unread: int
    unread: list[str]
    num_staged_units: int
    num_to_describe: int
    num_to_embed: dict[str, int]
    images_per_engine_s: float | None
    time_s: float | None
    engine_hours: float | None
    cost: float | None
    pools: PoolSizes

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return fields | {"pools": self.pools.to_json()}


def preview(
    plan: CaptionPlan,
    on_members: Callable[[Shard, pa.Table, NDArray[np.uint8]], None] | None = None,
) -> Preview:
    """Classify every image of a plan without reading any image.

    If the manifest of a shard is missing or out of date, the headers of the shard are read.

    Args:
        plan: the result of `plan_caption`.
        on_members: called for each shard whose members are known. This function receives the shard,
            the members of the shard (schema `skytext.table.shards.manifest.MANIFEST`), and the
            `Verdict` of each member.

    Raises:
        CallError: a store request failed.
    """
    table = ImagesTable.find(plan.location)
    version = None if table is None else table.version
    images: Counter[Verdict] = Counter()
    ignored: Counter[str] = Counter()
    num_to_read = num_gone = 0
    unread: list[str] = []
    options = plan.options(walk_headers=True)
    index = open_index(plan.location, version, plan.shards, options)
    num_gone += index.gone_shards.total()
    for shard in plan_shards(plan.location, index, plan.shards, options, on_members):
        images.update(dict(zip(Verdict, shard.counts, strict=True)))
        num_gone += shard.num_gone_ok + shard.num_gone_failed
        num_to_read += shard.must_read
        for kind, number in shard.ignored.items():
            count_kind(ignored, kind, number)
        if shard.fault:
            unread.append(shard.fault)
    to_do = (*_TO_DO, Verdict.STALE) if plan.redo_stale else _TO_DO
    num_to_describe = sum(images[verdict] for verdict in to_do)
    rate = _measured_rate(last_runs(plan.location), plan.caption_model.name)
    engine_s = None if rate is None else num_to_describe / rate
    num_old, old_bytes = (0, 0) if table is None else bytes_of_old_versions(table)
    price = plan.config.job.cost_per_engine_hour
    return Preview(
        num_shards=len(plan.shards),
        num_shards_to_read=num_to_read,
        num_images={verdict.name.lower(): images[verdict] for verdict in Verdict},
        ignored=dict(ignored),
        num_failed_due=(0 if table is None else table.num_failed_due(plan.config.job.max_attempts)),
        num_gone=num_gone,
        num_old_versions=num_old,
        old_version_bytes=old_bytes,
        num_shards_gone=len(index.gone_shards),
        num_unread=len(unread),
        unread=unread[:_NUM_UNREAD_SHOWN],
        num_staged_units=len(staged_unit_ids(plan.location)),
        num_to_describe=num_to_describe,
        num_to_embed=_to_embed(plan, table),
        images_per_engine_s=None if rate is None else round(rate, 4),
        time_s=_rounded(engine_s, plan.config.caption.engine.num_engines),
        engine_hours=_rounded(engine_s, 3600, digits=4),
        cost=None if engine_s is None or price is None else round(engine_s / 3600 * price, 2),
        pools=pool_sizes(plan.config),
    )


def _to_embed(plan: CaptionPlan, table: ImagesTable | None) -> dict[str, int]:
    """Return the number of images to embed with a new embedding model, by kind of vector."""
    found: dict[str, int] = {}
    if table is None:
        return found
    for one in plan.stale_vectors:
        num_ok, num_there = num_with_vector(table, one.column)
        found[str(one.column.kind)] = num_ok - num_there
    return found


def _measured_rate(runs: list[RunRecord], model: str) -> float | None:
    """Return how many images one engine describes per second, as the mean over all earlier runs.

    Only runs with the caption model ``model`` are used. None if there is no such run.
    """
    num_images = engine_s = 0.0
    for run in runs:
        if run.config.get("caption", {}).get("model") == model:
            num_images += run.counts.get("num_captioned", 0)
            engine_s += run.timings_s.get("engine_span_s", 0.0)
    return num_images / engine_s if num_images and engine_s else None


def _rounded(value: float | None, divisor: float, digits: int = 1) -> float | None:
    return None if value is None else round(value / divisor, digits)
