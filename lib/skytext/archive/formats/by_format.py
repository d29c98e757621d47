"""Read or list a shard of any format.

INPUT: a :class:`Shard`. OUTPUT: a :class:`Sample` for every image in it, in order, or a
:class:`Member` from its headers alone.
FAN-OUT: one shard, as many samples as it has images, plus one for a damaged tail.
ON ERROR: damaged bytes make a failed sample. If the store does not return the bytes, reading raises
an error, and the rest of the shard is unknown.
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
    """Yield the images of a shard.

    Args:
        shard: the shard, from :func:`skytext.archive.discover`.
        limits: memory limits; None for the defaults.
        options: how to read shards; None for the defaults.
        counts: filled while reading; may be None.
        is_known: takes the etag of an image file in a folder; True if its bytes are not needed.
            The sample then has no data.

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
    """Yield the headers of a shard's images without reading the images.

    The ids, their order and their number are those of `read_shard` with the same arguments, even
    for a damaged shard.

    Args:
        shard: the shard, from :func:`skytext.archive.discover`.
        limits: as for `read_shard`; they decide which members are too large.
        options: as for `read_shard`.
        counts: may be None; else its ``etag`` is set and ignored files are counted, except
            sidecars without an image.

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
    """Whether the shard is a broken link in a local listing."""
    return shard.uri.startswith("file:") and not shard.etag


@contextmanager
def _store_faults(shard: Shard) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        raise StoreFaultError(f"{shard.uri} was not read to its end: {err}") from err
