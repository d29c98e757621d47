"""Compare the headers of shards with their manifests. This check is independent of the readers.

INPUT    shards that were read to their ends, and the table that contains their manifests.
OUTPUT   one line per shard whose headers differ from its manifest.
FAN-OUT  one task per group of shards.
ON ERROR if the store does not deliver a shard, the output contains a line with the error. If a
         shard has changed since the run read it, the shard is skipped.

If the headers of a shard differ from its manifest, the manifest is deleted, so that the next run
reads the shard again.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import ray
from ray.exceptions import RayError

from skytext.archive import (
    ChangedError,
    ReadLimits,
    ReadOptions,
    Shard,
    ShardCounts,
    list_members,
)
from skytext.errors import StoreFaultError
from skytext.run.cluster.cluster import job_error
from skytext.table.location import TableLocation
from skytext.table.shards.manifest import forget_manifest, read_manifest

_THREADS = 16
_SHARE = 0.01
_MIN_SHARDS = 3
_TRIES = 3
_WAIT_S = 1.0


def sample_shards(shards: Sequence[Shard], seed: str) -> list[Shard]:
    """Return a random sample of the shards.

    The sample contains 1 % of the shards, but at least three shards. If there are fewer than three
    shards, it contains all shards.
    """
    number = max(_MIN_SHARDS, math.ceil(_SHARE * len(shards)))
    return random.Random(seed).sample(shards, min(number, len(shards)))


@dataclass(frozen=True, slots=True)
class HeaderWalk:
    """A function that compares the headers of shards with their manifests.

    Attributes:
        location: the table with the manifests.
        limits: limits with which the shards were read.
        reading: options with which the shards were read.
    """

    location: TableLocation
    limits: ReadLimits
    reading: ReadOptions

    def __call__(self, shards: Sequence[Shard]) -> list[str]:
        """Return one line per shard whose headers differ from its manifest."""
        with ThreadPoolExecutor(_THREADS) as pool:
            return [wrong for wrong in pool.map(self._compare, shards) if wrong]

    def _compare(self, shard: Shard) -> str | None:
        manifest = read_manifest(self.location, shard.archive, shard.path, ["image_id"])
        if manifest is None:
            return f"{shard.path}: it has no manifest, because it was not read to its end"
        counts = ShardCounts()
        try:
            members = list_members(shard, self.limits, self.reading, counts)
            ids = [member.image_id for member in members]
        except StoreFaultError as error:
            has_changed = isinstance(error.__cause__, (ChangedError, FileNotFoundError))
            return None if has_changed else f"{shard.path}: its headers cannot be read: {error}"
        if counts.etag != manifest.etag or ids == manifest.members.column("image_id").to_pylist():
            return None
        forget_manifest(self.location, shard.archive, shard.path)
        return (
            f"{shard.path}: its headers list {len(ids)} images, but its manifest lists "
            f"{manifest.members.num_rows}"
        )


def walk_shards(
    walk: HeaderWalk,
    shards: Sequence[Shard],
    *,
    num_tasks: int,
    num_cpus: float,
    on_wait: Callable[[], None],
) -> list[str]:
    """Check shards on the cluster; return one line per shard whose headers differ.

    Args:
        walk: the function that checks shards.
        shards: the shards to check.
        num_tasks: maximum number of concurrent tasks.
        num_cpus: number of CPUs per task.
        on_wait: called every second. This function may raise an error to end the check.

    Raises:
        JobError: the cluster failed.
    """
    num_tasks = min(num_tasks, math.ceil(len(shards) / _THREADS))
    options = ray.remote(num_cpus=num_cpus, max_retries=_TRIES, scheduling_strategy="SPREAD")
    task = options(_walk)
    pending = [task.remote(walk, shards[number::num_tasks]) for number in range(num_tasks)]
    wrong: list[str] = []
    try:
        while pending:
            done, pending = ray.wait(pending, timeout=_WAIT_S)
            wrong += [line for lines in ray.get(done) for line in lines]
            on_wait()
    except RayError as error:
        raise job_error(error) from error
    finally:
        for reference in pending:
            ray.cancel(reference)
    return wrong


def _walk(walk: HeaderWalk, shards: Sequence[Shard]) -> list[str]:
    return walk(shards)
