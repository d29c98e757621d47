"""Decide the work of a run, shard by shard.

INPUT    the shards of the sources, and a version of the table.
OUTPUT   for each shard the number of images by `Verdict`, and whether it must be read.
FAN-OUT  one `ShardPlan` per shard; the table is scanned once for any number of shards.
ON ERROR a failed store request ends the run before any work.

A shard whose manifest has the current etag is judged by the manifest and need not be opened. Of the
other shards, ``caption`` reads new ones anyway; only ``skytext plan`` reads their headers.
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
from skytext.table.manifest import MANIFEST, read_manifest
from skytext.table.store_retry import again

_THREADS = 16
# Number of shards looked up in advance: limits memory.
_AHEAD = 64
_NO_IDS = np.empty(0, f"S{ID_BYTES}")
_WALKED = MANIFEST.append(pa.field("etag", pa.string(), nullable=False))


class Verdict(IntEnum):
    """The work for an image, and its reason."""

    NEW = 0
    """No row yet: will be described."""
    CHANGED = 1
    """Its bytes differ from those of its row: will be described again, and the row replaced."""
    UNSURE = 2
    """Its shard has changed; whether the image has changed is known after reading."""
    STALE = 3
    """Described with other settings: left alone, or described again on request."""
    FAILED = 4
    """Failed before: left to ``retry-failed``."""
    DONE = 5
    """Has a row; no work."""


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """The plan of a shard before it is read.

    Attributes:
        shard: the shard.
        is_known: whether its members are known, from the manifest or from its headers.
        must_read: whether it has any work.
        by_rows: whether all work is on images whose row has the location of their bytes: these are
            fetched one by one. Otherwise the shard is read as a whole.
        gone: ids (dtype S16) of rows whose images the shard no longer has.
        counts: number of images by `Verdict` value; all 0 if unknown.
        num_listed_ok: listed images with an ``ok`` row.
        num_gone_ok: ``ok`` rows whose images the shard no longer has.
        num_gone_failed: failed rows whose images the shard no longer has.
        ids: count and sum of the ids with rows; an image with two rows counts once.
        fragments: the table fragments with its rows, if it must be read; None if unknown.
        fault: the reason why the store did not deliver its headers; empty without a failure.
        ignored: numbers of other files in its headers, by kind; empty if these were not read.
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
        """Number of images in the shard with a row."""
        return self.num_listed - self.counts[Verdict.NEW]


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """The options of a plan.

    Attributes:
        caption_fingerprint: rows with another one are stale.
        redo_stale: describe stale rows again.
        retry_failed: plan ``retry-failed`` instead of ``caption``.
        max_attempts: failed rows with this many attempts are not tried again.
        walk_headers: whether to read the headers of shards without a current manifest.
        whole_archives: archives of which all shards are given.
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
    """The rows of one shard, sorted by id; all arrays have the same length."""

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
    """The rows of all images of some shards, with about 56 bytes per row.

    Attributes:
        described: bytes (N,), sorted: the first 16 bytes of the content hashes of all images of
            the table with this caption fingerprint, from any shard, including withdrawn ones.
        gone_shards: rows by archive and shard, for shards that no longer exist, without withdrawn
            rows.
        gone_ids: ids of these rows, as from `skytext.table.id_sums.hash_bytes`.

    Args:
        table: the version to read; None without one.
        shards: the shards of the sources.
        caption_fingerprint: rows with another one are stale.
        whole_archives: archives of which all shards are in ``shards``.
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
        # There are few distinct pairs and many rows, so each pair is looked up once.
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
    """Read every row of a version of a table; None for no table."""
    table = None if version is None else ImagesTable.open(location, version)
    return RowIndex(table, shards, options.caption_fingerprint, options.whole_archives)


def plan_shards(
    location: TableLocation,
    index: RowIndex,
    shards: Sequence[Shard],
    options: PlanOptions,
    on_members: Callable[[Shard, pa.Table, NDArray[np.uint8]], None] | None = None,
) -> Iterator[ShardPlan]:
    """Yield the plan of every shard, in order.

    Args:
        location: the table.
        index: rows of the table for these shards and options.
        shards: the current shards of the sources.
        options: options of the plan.
        on_members: called for each known shard, with its members (of `MANIFEST`) and verdicts.
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
    """The members of a shard (None: unknown), the error if there was one, and ignored files."""

    members: pa.Table | None = None
    fault: str = ""
    ignored: Mapping[str, int] = field(default_factory=dict)


def _walk(shard: Shard, options: PlanOptions) -> _Known:
    """Return the members of a shard, or the reason why its headers could not be read."""
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
    # An image that has returned is new, and its withdrawn row is replaced.
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
        # The content after the damage is unknown.
        gone[:] = False
    counts = np.bincount(verdicts, minlength=len(Verdict))
    # A failed row of a missing image can never be retried.
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
    """Return whether a part of a shard was unreadable when its members were listed."""
    marker = pa.scalar(image_id(shard.archive, shard.path, "", 0))
    return bool(pc.any(pc.equal(members.column("image_id"), marker)).as_py())


def _stale(rows: _Rows, options: PlanOptions) -> NDArray[np.bool_]:
    """Return the rows to describe again because they are stale, bool (N,)."""
    return rows.is_ok & rows.is_stale if options.redo_stale else np.zeros(len(rows.ids), np.bool_)


def _are_where_they_were(shard: Shard, rows: _Rows) -> bool:
    """Return whether the rows of a known shard have the current locations of their images."""
    if not rows.has_place.all():
        return False
    # A rewritten tar with the same images has them at other offsets. A file in a folder has its own
    # etag and only one location.
    return shard.path.endswith("/") or bool((rows.etags == _etag_hash(shard.etag)).all())


def _fragments(rows: _Rows, must_read: bool) -> tuple[int, ...]:
    return tuple(np.unique(rows.fragments).tolist()) if must_read else ()


def _verdicts(members: pa.Table, rows: _Rows) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
    """Return each member's verdict, and the index of its row or -1."""
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
    # An image that has become unreadable keeps its row. A failed row without a hash belongs to an
    # image whose bytes were missing.
    comparable = (contents != b"") & ((row.contents != b"") | ~row.is_ok)
    verdicts[found & comparable & (contents != row.contents)] = Verdict.CHANGED
    if "etag" in members.column_names:
        # Only headers were read, so there is no hash.
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
