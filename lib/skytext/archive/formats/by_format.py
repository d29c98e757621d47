"""Read or list a shard of any format.

INPUT: a :class:`Shard`. OUTPUT: a :class:`Sample` for every image in the shard, in order. If the
shard is only listed, the output is a :class:`Member` for every image.
FAN-OUT: one shard gives one sample for each image, and one more sample if the end of the shard is
damaged.
ON ERROR: damaged bytes give a failed sample. If the store does not return the bytes, the reader
raises an error, and the rest of the shard is not read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from skytext.archive.formats.folder import list_folder_images, read_folder
from skytext.archive.formats.parquet import list_parquet, read_parquet
from skytext.archive.formats.tar import list_tar, read_tar
from skytext.archive.shards import Member, ReadLimits, ReadOptions, Sample, Shard, ShardCounts
from skytext.archive.unreadable import ShardEndError, failed_shard
from skytext.errors import Reason, StoreFaultError

_DANGLING = ShardEndError(Reason.SHARD_UNREADABLE, "is a broken link")


def read_shard(
    shard: Shard,
    *,
    limits: ReadLimits | None = None,
    options: ReadOptions | None = None,
    counts: ShardCounts | None = None,
    is_known: Callable[[Member], bool] = lambda _: False,
) -> Iterator[Sample]:
    """Yield the images in a shard.

    Args:
        shard: the shard, from :func:`skytext.archive.discover`.
        limits: memory limits. None means the defaults.
        options: how to read shards. None means the defaults.
        counts: an object that the reader updates, or None.
        is_known: a function whose argument is the member of an image file in a folder. If it
            returns True, the bytes of the image are not needed, and the sample has no data.

    Raises:
        StoreFaultError: the store did not return the whole shard.
    """
    limits = limits or ReadLimits()
    options = options or ReadOptions()
    counts = counts if counts is not None else ShardCounts()
    counts.etag = shard.etag
    samples: Iterator[Sample]
    if _is_dangling(shard):
        samples = iter([failed_shard(shard, _DANGLING)])
    elif shard.path.endswith("/"):
        samples = read_folder(shard, limits, options, counts, is_known)
    elif shard.path.lower().endswith(".parquet"):
        samples = read_parquet(shard, limits, options, counts)
    else:
        samples = read_tar(shard, limits, options, counts)
    with _store_faults(shard):
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
    counts: ShardCounts | None = None,
) -> Iterator[Member]:
    """Yield facts about the images in a shard. The images themselves are not read.

    For the same arguments, `read_shard` and this function yield the same ids in the same order.
    This is also true for damaged shards.

    Args:
        shard: the shard, from :func:`skytext.archive.discover`.
        limits: see `read_shard`. A member that is larger than the limit gets a ``failure``.
        options: see `read_shard`.
        counts: an object that the function updates, or None. The function sets the ``etag`` and
            counts ignored files. It does not count sidecars without an image.

    Raises:
        StoreFaultError: the store did not return the whole shard.
    """
    limits = limits or ReadLimits()
    options = options or ReadOptions()
    counts = counts if counts is not None else ShardCounts()
    counts.etag = shard.etag
    members: Iterator[Member]
    if _is_dangling(shard):
        members = iter([Member.of(failed_shard(shard, _DANGLING))])
    elif shard.path.endswith("/"):
        members = list_folder_images(shard, limits, options, counts)
    elif shard.path.lower().endswith(".parquet"):
        members = list_parquet(shard, options)
    else:
        members = list_tar(shard, limits, options, counts)
    with _store_faults(shard):
        yield from members


def _is_dangling(shard: Shard) -> bool:
    """Return true if the shard is a local file, and this file is a broken link."""
    return shard.uri.startswith("file:") and not shard.etag


@contextmanager
def _store_faults(shard: Shard) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        raise StoreFaultError(f"{shard.uri} was not read to its end: {err}") from err
