"""Read a shard, or only list what is in it, whatever its format.

INPUT: a :class:`Shard`. OUTPUT: a :class:`Sample` for every image in it, in order, or a
:class:`Member` from its headers alone.
FAN-OUT: one shard, as many samples as it has images, plus one for an unreadable tail.
ON ERROR: a failed sample; nothing that a shard holds makes reading raise.
"""

from __future__ import annotations

from collections.abc import Iterator

from skytext.archive.formats.folder import list_folder_images, read_folder
from skytext.archive.formats.parquet import list_parquet, read_parquet
from skytext.archive.formats.tar import list_tar, read_tar
from skytext.archive.shards import Member, ReadLimits, ReadOptions, Sample, Shard, ShardCounts


def read_shard(
    shard: Shard,
    *,
    limits: ReadLimits | None = None,
    options: ReadOptions | None = None,
    counts: ShardCounts | None = None,
) -> Iterator[Sample]:
    """Yield the images of a shard; never raises for what the shard holds.

    Args:
        shard: the shard, as :func:`skytext.archive.discover` found it.
        limits: how much may be held in memory; the defaults where None.
        options: how shards are to be read; the defaults where None.
        counts: filled while reading, where given.
    """
    limits = limits or ReadLimits()
    options = options or ReadOptions()
    counts = counts if counts is not None else ShardCounts()
    if shard.path.endswith("/"):
        samples = read_folder(shard, limits, counts)
    elif shard.path.lower().endswith(".parquet"):
        samples = read_parquet(shard, limits, options)
    else:
        samples = read_tar(shard, limits, counts)
    for sample in samples:
        if sample.failure is None:
            counts.num_ok += 1
        else:
            counts.num_failed += 1
        yield sample


def list_members(
    shard: Shard,
    limits: ReadLimits | None = None,
    options: ReadOptions | None = None,
) -> Iterator[Member]:
    """Yield what is known of a shard's images without reading them.

    The same ids as those of `read_shard` with the same arguments, in the same order and number,
    however damaged the shard is. Only faults of the store may make a difference.

    Args:
        shard: the shard, as :func:`skytext.archive.discover` found it.
        limits: as for `read_shard`; they decide which members are too large.
        options: as for `read_shard`.
    """
    limits = limits or ReadLimits()
    options = options or ReadOptions()
    if shard.path.endswith("/"):
        yield from list_folder_images(shard, limits)
    elif shard.path.lower().endswith(".parquet"):
        yield from list_parquet(shard, options)
    else:
        yield from list_tar(shard, limits)
