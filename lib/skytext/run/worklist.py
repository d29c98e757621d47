"""Determine for each shard what a run must do.

INPUT    the shards of the sources, and a version of the table.
OUTPUT   for each shard, the number of images by `Verdict`, and whether the shard must be read.
FAN-OUT  one `ShardPlan` per shard. The table is scanned once for all shards.
ON ERROR a failed store request ends the run before any work starts.

If the etag in the manifest of a shard equals the current etag of the shard, the plan uses the
manifest, and the shard is not opened. For all other shards, ``skytext plan`` reads the headers.
``skytext caption`` reads these shards completely, so it does not read their headers first.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from skytext.archive import (
    ReadLimits,
    ReadOptions,
    Shard,
    ShardCounts,
    image_id,
    list_members,
)
from skytext.errors import StoreFaultError
from skytext.table.id_sums import ID_BYTES, NO_IDS, IdSum, hash_bytes, id_sum
from skytext.table.images_dataset import ImagesTable, RowBatch
from skytext.table.location import TableLocation
from skytext.table.shards.manifest import MANIFEST, read_manifest
from skytext.table.store.store_retry import again

_THREADS = 16
# Number of shards whose manifests are in memory at the same time.
_AHEAD = 64
_NO_IDS = np.empty(0, f"S{ID_BYTES}")
_WALKED = MANIFEST.append(pa.field("etag", pa.string(), nullable=False))


class Verdict(IntEnum):
    """Whether an image must be described, and why."""

    NEW = 0
    """The image has no row. It will be described."""
    CHANGED = 1
    """The bytes of the image have changed since its row was written. It will be described again."""
    UNSURE = 2
    """The shard of the image has changed. The run must read the image to compare its bytes."""
    STALE = 3
    """The image was described with other settings. It is described again only if the user requests
    this."""
    FAILED = 4
    """The image has a failed row. ``retry-failed`` tries to describe the image again."""
    DONE = 5
    """The image has a row and needs no work."""


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """The work of a run for one shard. The plan is made before the shard is read.

    Attributes:
        shard: the shard.
        is_known: whether the members of the shard are known from its manifest or its headers.
        must_read: whether the run must process at least one image of the shard.
        by_rows: whether the run fetches only single images of the shard. The row of an image
            contains its byte range. If false, the run reads the whole shard.
        gone: ids (dtype S16) of the rows whose images are no longer in the shard.
        counts: number of images by `Verdict` value; all 0 if the members are unknown.
        num_listed_ok: number of images in the shard that have an ``ok`` row.
        num_gone_ok: number of ``ok`` rows whose images are no longer in the shard.
        num_gone_failed: number of failed rows whose images are no longer in the shard.
        ids: count and sum of the ids of the shard's rows. If two rows have the same id, the id is
            counted once.
        fragments: ids of the table fragments that contain rows of the shard. Empty if the shard
            need not be read; None if the fragments are unknown.
        fault: the reason why the store did not deliver the headers; empty without an error.
        ignored: number of files that are not images, by file kind; empty if the headers were not
            read.
    """

    shard: Shard
    is_known: bool
    must_read: bool
    counts: tuple[int, ...] = (0,) * len(Verdict)
    num_listed_ok: int = 0
    num_gone_ok: int = 0
    num_gone_failed: int = 0
    ids: IdSum = NO_IDS
    fragments: tuple[int, ...] | None = ()
    fault: str = ""
    ignored: Mapping[str, int] = field(default_factory=dict)
    by_rows: bool = False
    gone: NDArray[np.bytes_] = field(default_factory=lambda: _NO_IDS, compare=False)

    @property
    def num_listed(self) -> int:
        """Number of images in the shard."""
        return sum(self.counts)

    @property
    def num_known(self) -> int:
        """Number of images in the shard that have a row."""
        return self.num_listed - self.counts[Verdict.NEW]


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """The options of a plan.

    Attributes:
        caption_fingerprint: caption fingerprint of the run. Rows with another caption fingerprint
            are stale.
        redo_stale: whether stale rows are described again.
        retry_failed: true if the plan is for ``retry-failed``; false if it is for ``caption``.
        max_attempts: maximum number of attempts to describe an image. A failed row with this number
            of attempts is not tried again.
        walk_headers: whether to read the headers of a shard if its manifest is missing or has
            another etag.
        whole_archives: names of the archives whose shards are all in the sources.
        limits: limits of the reader.
        reading: options of the reader.
    """

    caption_fingerprint: str
    redo_stale: bool = False
    retry_failed: bool = False
    max_attempts: int = 3
    walk_headers: bool = False
    whole_archives: frozenset[str] = frozenset()
    limits: ReadLimits = field(default_factory=ReadLimits)
    reading: ReadOptions = field(default_factory=ReadOptions)


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of one shard, sorted by id. All arrays have one entry per row."""

    ids: NDArray[np.bytes_]
    contents: NDArray[np.bytes_]
    etags: NDArray[np.int64]
    attempts: NDArray[np.int32]
    is_ok: NDArray[np.bool_]
    is_stale: NDArray[np.bool_]
    is_withdrawn: NDArray[np.bool_]
    is_shard: NDArray[np.bool_]
    has_place: NDArray[np.bool_]
    fragments: NDArray[np.uint32]

    def at(self, index: NDArray[np.intp]) -> _Rows:
        return _Rows(*(getattr(self, name)[index] for name in self.__slots__))


class RowIndex:
    """The table rows of the images in some shards. A row needs about 56 bytes of memory.

    Attributes:
        described: the first 16 bytes of the content hash of each image that was described with
            ``caption_fingerprint``, dtype S16, shape (N,), sorted. The images may be in any shard.
            Withdrawn images are included.
        gone_shards: number of rows by archive and shard, for shards that no longer exist. Withdrawn
            rows are not counted.
        gone_ids: ids of the rows in ``gone_shards``, in the form of
            `skytext.table.id_sums.hash_bytes`.

    Args:
        table: the table version to read; None if there is no table.
        shards: the shards of the sources.
        caption_fingerprint: rows with another caption fingerprint are stale.
        whole_archives: names of the archives whose shards are all in ``shards``.
    """

    def __init__(
        self,
        table: ImagesTable | None,
        shards: Sequence[Shard],
        caption_fingerprint: str,
        whole_archives: frozenset[str] = frozenset(),
    ) -> None:
        self._codes = {(shard.archive, shard.path): i for i, shard in enumerate(shards)}
        self.gone_shards: Counter[tuple[str, str]] = Counter()
        self.gone_ids: list[NDArray[np.bytes_]] = []
        self._whole_archives = whole_archives
        parts: list[_Rows] = []
        codes: list[NDArray[np.int64]] = []
        described = [np.empty(0, f"S{ID_BYTES}")]
        if table is not None:
            for batch in table.row_batches(caption_fingerprint):
                rows, code = self._arrays(batch)
                described.append(rows.contents[(rows.is_ok | rows.is_withdrawn) & ~rows.is_stale])
                keep = np.flatnonzero(code >= 0)
                parts.append(rows.at(keep))
                codes.append(code[keep])
        self._rows = _concatenate(parts)
        self.described = np.unique(np.concatenate(described))
        code = np.concatenate([np.empty(0, np.int64), *codes])
        order = np.lexsort((self._rows.ids, code))
        self._rows = self._rows.at(order)
        self._starts = np.searchsorted(code[order], np.arange(len(shards) + 1))

    def rows_of(self, shard: Shard) -> _Rows:
        """Return the rows of a shard."""
        code = self._codes[shard.archive, shard.path]
        return self._rows.at(np.arange(self._starts[code], self._starts[code + 1]))

    def _arrays(self, batch: RowBatch) -> tuple[_Rows, NDArray[np.int64]]:
        archives, shards = batch.archive.dictionary_encode(), batch.shard.dictionary_encode()
        # There are many rows but few distinct pairs of archive and shard. Look up each pair once.
        width = max(len(shards.dictionary), 1)
        pairs = archives.indices.to_numpy() * np.int64(width) + shards.indices.to_numpy()
        distinct, inverse = np.unique(pairs, return_inverse=True)
        names = [
            (
                archives.dictionary[int(p) // width].as_py(),
                shards.dictionary[int(p) % width].as_py(),
            )
            for p in distinct
        ]
        known = np.array([self._codes.get(name, -1) for name in names], np.int64)
        code = known[inverse]
        is_present = ~batch.is_withdrawn.to_numpy(zero_copy_only=False)
        is_gone = [
            i < 0 and n[0] in self._whole_archives for n, i in zip(names, known, strict=True)
        ]
        gone = np.array(is_gone, np.bool_)[inverse] & is_present
        for place, number in enumerate(np.bincount(inverse[gone])):
            if number:
                self.gone_shards[names[place]] += int(number)
        self.gone_ids.append(hash_bytes(batch.image_id.filter(pa.array(gone))))
        rows = _Rows(
            ids=hash_bytes(batch.image_id),
            contents=hash_bytes(batch.content_sha256),
            etags=_etag_hashes(batch.shard_etag),
            attempts=batch.attempts.fill_null(0).to_numpy(zero_copy_only=False),
            is_ok=batch.is_ok.to_numpy(zero_copy_only=False),
            is_stale=batch.is_stale.fill_null(False).to_numpy(zero_copy_only=False),
            is_withdrawn=batch.is_withdrawn.to_numpy(zero_copy_only=False),
            is_shard=batch.is_shard.to_numpy(zero_copy_only=False),
            has_place=batch.has_place.to_numpy(zero_copy_only=False),
            fragments=batch.fragment.to_numpy().astype(np.uint32),
        )
        return rows, code


@again
def open_index(
    location: TableLocation, version: int | None, shards: Sequence[Shard], options: PlanOptions
) -> RowIndex:
    """Read all rows of a table version. ``version`` is None if there is no table."""
    table = None if version is None else ImagesTable.open(location, version)
    return RowIndex(table, shards, options.caption_fingerprint, options.whole_archives)


def plan_shards(
    location: TableLocation,
    index: RowIndex,
    shards: Sequence[Shard],
    options: PlanOptions,
    on_members: Callable[[Shard, pa.Table, NDArray[np.uint8]], None] | None = None,
) -> Iterator[ShardPlan]:
    """Yield the plan of every shard, in the order of ``shards``.

    Args:
        location: the table.
        index: the result of `open_index` for the same shards and options.
        shards: the current shards of the sources.
        options: options of the plan.
        on_members: called for each shard whose members are known. This function receives the shard,
            the members of the shard (schema `MANIFEST`), and the `Verdict` of each member.
    """
    columns = ["image_id", "content_sha256"] if on_members is None else MANIFEST.names

    def members_of(shard: Shard) -> _Known:
        manifest = read_manifest(location, shard.archive, shard.path, columns)
        if manifest is not None and manifest.etag == shard.etag:
            return _Known(manifest.members)
        return _walk(shard, options) if options.walk_headers else _Known()

    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(shards), _AHEAD):
            some = shards[start : start + _AHEAD]
            for shard, known in zip(some, pool.map(members_of, some), strict=True):
                yield _judge(shard, known, index.rows_of(shard), options, on_members)


@dataclass(frozen=True, slots=True)
class _Known:
    """The members of a shard, or the reason why they are unknown.

    Attributes:
        members: the members of the shard; None if they are unknown.
        fault: the error of the store; empty without an error.
        ignored: number of files that are not images, by file kind.
    """

    members: pa.Table | None = None
    fault: str = ""
    ignored: Mapping[str, int] = field(default_factory=dict)


def _walk(shard: Shard, options: PlanOptions) -> _Known:
    """Read the headers of a shard; return the members of the shard, or the error of the store."""
    counts = ShardCounts()
    try:
        members = [
            {name: getattr(member, name, None) for name in _WALKED.names}
            for member in list_members(shard, options.limits, options.reading, counts)
        ]
    except StoreFaultError as error:
        return _Known(fault=str(error))
    return _Known(pa.Table.from_pylist(members, schema=_WALKED), ignored=counts.ignored)


def _judge(
    shard: Shard,
    known: _Known,
    every_row: _Rows,
    options: PlanOptions,
    on_members: Callable[[Shard, pa.Table, NDArray[np.uint8]], None] | None,
) -> ShardPlan:
    # A withdrawn image may be in the shard again. Such an image is processed like a new image, and
    # its withdrawn row is replaced.
    rows = every_row.at(np.flatnonzero(~every_row.is_withdrawn))
    retryable = ~rows.is_ok & (rows.attempts < options.max_attempts)
    members = known.members
    if members is None:
        must_read = bool(retryable.any()) if options.retry_failed else True
        return ShardPlan(
            shard, False, must_read, fragments=_fragments(every_row, must_read), fault=known.fault
        )
    verdicts, place = _verdicts(members, rows)
    if on_members is not None:
        on_members(shard, members, verdicts)
    has_row = np.zeros(len(rows.ids), np.bool_)
    has_row[place[place >= 0]] = True
    gone, markers = ~has_row & ~rows.is_shard, ~has_row & rows.is_shard
    if _is_damaged(shard, members):
        # The content after the damaged part is unknown. It may contain the images of these rows.
        gone[:] = False
    counts = np.bincount(verdicts, minlength=len(Verdict))
    # A failed row cannot be tried again if its image is no longer in the shard.
    retryable &= ~gone
    again = retryable if options.retry_failed else _stale(rows, options) & has_row
    is_new = bool(counts[[Verdict.NEW, Verdict.CHANGED, Verdict.UNSURE]].any() or markers.any())
    needs_shard = is_new and not options.retry_failed
    must_read = needs_shard or bool(again.any())
    has_places = _are_where_they_were(shard, rows.at(np.flatnonzero(again)))
    return ShardPlan(
        shard=shard,
        is_known=True,
        must_read=must_read,
        by_rows=must_read and not needs_shard and has_places and not gone.any(),
        counts=tuple(int(count) for count in counts),
        num_listed_ok=int((rows.is_ok & has_row).sum()),
        num_gone_ok=int((rows.is_ok & gone).sum()),
        num_gone_failed=int((~rows.is_ok & (gone | markers)).sum()),
        ids=id_sum(np.unique(rows.ids)),
        fragments=_fragments(every_row, must_read),
        ignored=known.ignored,
        gone=rows.ids[gone],
    )


def _is_damaged(shard: Shard, members: pa.Table) -> bool:
    """Return whether a part of a shard was unreadable when the members were listed."""
    marker = pa.scalar(image_id(shard.archive, shard.path, "", 0))
    return bool(pc.any(pc.equal(members.column("image_id"), marker)).as_py())


def _stale(rows: _Rows, options: PlanOptions) -> NDArray[np.bool_]:
    """Return for each row whether its image must be described again because the row is stale.

    Returns:
        A bool array, shape (N,).
    """
    return rows.is_ok & rows.is_stale if options.redo_stale else np.zeros(len(rows.ids), np.bool_)


def _are_where_they_were(shard: Shard, rows: _Rows) -> bool:
    """Return whether the byte ranges in the rows of a shard are still correct."""
    if not rows.has_place.all():
        return False
    # If a tar file was written again, its images may have other offsets. Its etag is then different
    # from the etag in the rows. A folder needs no such check, because each file of a folder has its
    # own etag.
    return shard.path.endswith("/") or bool((rows.etags == _etag_hash(shard.etag)).all())


def _fragments(rows: _Rows, must_read: bool) -> tuple[int, ...]:
    return tuple(np.unique(rows.fragments).tolist()) if must_read else ()


def _verdicts(members: pa.Table, rows: _Rows) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
    """Return two arrays: the verdict of each member, and the index of the row of each member.

    The index is -1 if the member has no row.
    """
    ids = hash_bytes(members.column("image_id").combine_chunks())
    contents = hash_bytes(members.column("content_sha256").combine_chunks())
    verdicts = np.full(len(ids), Verdict.NEW, np.uint8)
    if len(rows.ids) == 0:
        return verdicts, np.full(len(ids), -1, np.intp)
    place = np.minimum(np.searchsorted(rows.ids, ids), len(rows.ids) - 1)
    found = rows.ids[place] == ids
    row = rows.at(place)
    verdicts[found] = Verdict.DONE
    verdicts[found & row.is_ok & row.is_stale] = Verdict.STALE
    verdicts[found & ~row.is_ok] = Verdict.FAILED
    # If an image is now unreadable, the manifest contains no hash, and the row of the image stays.
    # If a failed row has no hash, the bytes of the image were missing when the row was made.
    comparable = (contents != b"") & ((row.contents != b"") | ~row.is_ok)
    verdicts[found & comparable & (contents != row.contents)] = Verdict.CHANGED
    if "etag" in members.column_names:
        # The members were read from the headers. Headers contain no hashes of the images, so the
        # etags are compared.
        moved = row.etags != _etag_hashes(members.column("etag").combine_chunks())
        verdicts[found & moved & (row.contents != b"")] = Verdict.UNSURE
    return verdicts, np.where(found, place, -1)


def _etag_hash(etag: str) -> int:
    digest = hashlib.sha256(etag.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _etag_hashes(etags: pa.Array) -> NDArray[np.int64]:
    encoded = etags.fill_null("").dictionary_encode()
    hashes = np.array([_etag_hash(etag) for etag in encoded.dictionary.to_pylist()], np.int64)
    found: NDArray[np.int64] = hashes[encoded.indices.to_numpy()]
    return found


def _concatenate(parts: Sequence[_Rows]) -> _Rows:
    empty = _Rows(
        np.empty(0, f"S{ID_BYTES}"),
        np.empty(0, f"S{ID_BYTES}"),
        np.empty(0, np.int64),
        np.empty(0, np.int32),
        np.empty(0, np.bool_),
        np.empty(0, np.bool_),
        np.empty(0, np.bool_),
        np.empty(0, np.bool_),
        np.empty(0, np.bool_),
        np.empty(0, np.uint32),
    )
    return _Rows(
        *(np.concatenate([getattr(part, n) for part in (empty, *parts)]) for n in _Rows.__slots__)
    )
