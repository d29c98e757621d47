"""Decide, shard by shard, what there is to do.

INPUT    the shards of the sources, and a version of the table.
OUTPUT   for each shard how many images have which `Verdict`, and whether it must be read.
FAN-OUT  one shard to one `ShardPlan`; the table is scanned once, whatever the number of shards.
ON ERROR a store that refuses ends the run before any work.

A shard whose manifest has the etag of today is judged by it and need not be opened. Of the others
``caption`` reads the new ones anyway; only ``skytext plan`` walks their headers.
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
from numpy.typing import NDArray

from skytext.archive import ReadLimits, ReadOptions, Shard, ShardCounts, list_members
from skytext.errors import StoreFaultError
from skytext.table.id_sums import ID_BYTES, NO_IDS, IdSum, hash_bytes, id_sum
from skytext.table.images_dataset import ImagesTable, RowBatch
from skytext.table.location import TableLocation
from skytext.table.manifest import MANIFEST, read_manifest
from skytext.table.store_retry import again

_THREADS = 16
# Shards looked up ahead of the one that is judged: bounds what is in memory.
_AHEAD = 64
_NO_IDS = np.empty(0, f"S{ID_BYTES}")
_WALKED = MANIFEST.append(pa.field("etag", pa.string(), nullable=False))


class Verdict(IntEnum):
    """What a run would do with an image, and why."""

    NEW = 0
    """No row yet: will be described."""
    CHANGED = 1
    """Its bytes are not those of its row: will be described again, in place of the row."""
    UNSURE = 2
    """Its shard has changed since; whether the image has is known once it is read."""
    STALE = 3
    """Described with other settings: left as it is, or described again where that is asked."""
    FAILED = 4
    """Failed before: left to ``retry-failed``."""
    DONE = 5
    """Has its row."""


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """What is known of a shard before it is read.

    Attributes:
        shard: the shard.
        is_known: whether its members are, from the manifest or from its headers.
        must_read: whether there is anything to do in it.
        by_rows: whether all of that is images with a row that says where their bytes are: these
            are fetched one by one. Else the shard is read as a whole.
        gone: ids of the rows of images that the shard no longer holds, of dtype S16.
        counts: images by `Verdict`, index by value; all 0 where it is not known.
        num_listed_ok: of the images listed, those whose row is ``ok``.
        num_gone_ok: done rows of images that the shard no longer holds.
        num_gone_failed: failed rows of such.
        ids: of the images that have rows; an image with two counts once.
        fragments: of the table: those that hold its rows, if it must be read; None where that is
            not known.
        fault: why the store did not give its headers; empty where it did or was not asked.
        ignored: numbers of other files that its headers name, by kind; empty if its headers were
            not read.
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
        """Images in the shard."""
        return sum(self.counts)

    @property
    def num_known(self) -> int:
        """Images in the shard that have a row."""
        return self.num_listed - self.counts[Verdict.NEW]


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What a plan is for.

    Attributes:
        caption_fingerprint: rows with another one are stale.
        redo_stale: describe stale rows again.
        retry_failed: plan ``retry-failed`` instead of ``caption``.
        max_attempts: a row that failed this often is not tried again.
        walk_headers: whether to open shards that the manifest does not know.
        whole_archives: archives all of whose shards are named.
        limits: of the reader.
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
    """The rows of one shard, sorted by id; all arrays of one length."""

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
    """What the table says of every image of some shards: about 56 bytes a row.

    Attributes:
        described: bytes (N,), sorted: the first 16 bytes of the content hashes of all images of
            the table, of whatever shard, that are described with this fingerprint; withdrawn ones
            too.
        gone_shards: rows by archive and shard, of the shards that are not there any more; withdrawn
            ones apart.
        gone_ids: of these rows, as `skytext.table.id_sums.hash_bytes` gives them.

    Args:
        table: the version to look at; None where there is none.
        shards: the shards that matter.
        caption_fingerprint: rows with another one are stale.
        whole_archives: archives all of whose shards are in ``shards``.
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
        # Distinct pairs are few, rows are many: look up each pair once.
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
    """Look at every row of a version of a table; None for no table."""
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
        index: its rows, of these shards and options.
        shards: what the sources hold now.
        options: what the plan is for.
        on_members: called with each known shard, its members (of `MANIFEST`) and their verdicts.
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
    """The members of a shard (None: not known), the error if there was one, and ignored files."""

    members: pa.Table | None = None
    fault: str = ""
    ignored: Mapping[str, int] = field(default_factory=dict)


def _walk(shard: Shard, options: PlanOptions) -> _Known:
    """Return the members of a shard, or why the store did not give its headers."""
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
    # An image that is back is new; its withdrawn row is replaced.
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
    counts = np.bincount(verdicts, minlength=len(Verdict))
    # A failed row of an image that is gone can never be retried.
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
        by_rows=must_read and not needs_shard and has_places,
        counts=tuple(int(count) for count in counts),
        num_listed_ok=int((rows.is_ok & has_row).sum()),
        num_gone_ok=int((rows.is_ok & gone).sum()),
        num_gone_failed=int((~rows.is_ok & (gone | markers)).sum()),
        ids=id_sum(np.unique(rows.ids)),
        fragments=_fragments(every_row, must_read),
        ignored=known.ignored,
        gone=rows.ids[gone],
    )


def _stale(rows: _Rows, options: PlanOptions) -> NDArray[np.bool_]:
    """Return which rows are described again because they are stale, bool (N,)."""
    return rows.is_ok & rows.is_stale if options.redo_stale else np.zeros(len(rows.ids), np.bool_)


def _are_where_they_were(shard: Shard, rows: _Rows) -> bool:
    """Return whether the rows of a known shard say where the bytes of their images are now."""
    if not rows.has_place.all():
        return False
    # A tar that was written anew with the same images has them at other places. A file of a folder
    # has an etag of its own, and one place.
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
    # An image that cannot be read any more keeps the row that it has. A failed row without a hash
    # is of an image whose bytes were not there.
    comparable = (contents != b"") & ((row.contents != b"") | ~row.is_ok)
    verdicts[found & comparable & (contents != row.contents)] = Verdict.CHANGED
    if "etag" in members.column_names:
        # Only headers were read, so nothing was hashed.
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
