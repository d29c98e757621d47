"""Verify at the end of a run that the table has one row for every image.

INPUT    the number of images and units that the run received for each shard, and the table version.
OUTPUT   `Proof`. It contains the number of rows by status, and a line for every contradiction.
FAN-OUT  one task. It reads the manifest of each shard that the run read, and scans the table once.
         If the ids of a shard's rows are not the expected ids, the task scans the table again.
ON ERROR the run ends with a job error, without a proof.

The evidence has four sources. The listing of the store contains the shards. The manifest of a shard
contains the size of the shard and its images. The table contains the rows. The driver has counted
the received units. A reader writes the manifest of a shard only when the reader has reached the end
of the shard. If two sources contradict each other for a shard, the manifest of the shard is
deleted, so that the next run reads the shard again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa

from skytext.archive import Shard
from skytext.run.cluster.driver_node import run_on_driver_node
from skytext.table.id_sums import IdSum, hash_bytes, id_sum
from skytext.table.images_dataset import ImagesTable, ShardRows
from skytext.table.location import TableLocation
from skytext.table.shards.manifest import Manifest, forget_manifest, read_manifest
from skytext.table.store.store_retry import again

_THREADS = 16
_Statuses = dict[tuple[str, str], dict[str, list[str]]]


@dataclass(frozen=True, slots=True)
class ShardMet:
    """The counts of a run for one shard.

    The run has either read the shard to its end, or fetched single images of the shard.

    Attributes:
        shard: the shard, as the store lists it.
        num_listed: number of images in the units of the shard.
        num_units: number of unit records that the driver has received. None if the run fetched
            single images, because the manifest does not contain the expected number for this case.
    """

    shard: Shard
    num_listed: int
    num_units: int | None


@dataclass(frozen=True, slots=True)
class Question:
    """The table and the versions that a proof compares.

    Attributes:
        location: the table.
        version: the last table version that the run made or saw; None if there is no table.
        first_version: the table version that the run started from; None if there was no table.
        caption_fingerprint: caption fingerprint of the run. Rows with another caption fingerprint
            are stale.
        only_rows: whether the run skipped all images without a row. This is true for
            ``retry-failed``.
    """

    location: TableLocation
    version: int | None
    first_version: int | None
    caption_fingerprint: str
    only_rows: bool = False


@dataclass(slots=True)
class Proof:
    """The result of a proof.

    Attributes:
        totals: number of rows by status. Only rows of images that are now in the shards are
            counted.
        num_gone: number of rows whose images are no longer in their shards.
        num_stale: number of rows whose caption fingerprint differs from the caption fingerprint of
            the run.
        num_double: number of images that have more than one row, in the shards of the run.
        wrong: one line for each contradiction that the proof found.
    """

    totals: Counter[str] = field(default_factory=Counter)
    num_gone: int = 0
    num_stale: int = 0
    num_double: int = 0
    wrong: list[str] = field(default_factory=list)


def prove(
    question: Question, met: Sequence[ShardMet], settled: Sequence[tuple[Shard, IdSum]]
) -> Proof:
    """Compare the evidence, in a worker process.

    Args:
        question: the table and the versions.
        met: the shards that the run processed.
        settled: the shards that needed no work. For each shard, the count and the sum of the ids of
            its rows when the run started.
    """
    if question.version is None:
        return Proof(
            wrong=[f"{one.shard.path}: there is no table" for one in met if one.num_listed]
        )
    return run_on_driver_node(_prove, question, tuple(met), tuple(settled))


@again
def _prove(
    question: Question, met: Sequence[ShardMet], settled: Sequence[tuple[Shard, IdSum]]
) -> Proof:
    table = ImagesTable.open(question.location, question.version)
    rows = table.rows_by_shard()
    proof = Proof(num_stale=table.num_stale(question.caption_fingerprint))
    with ThreadPoolExecutor(_THREADS) as pool:
        looked = list(pool.map(lambda one: _look(question, rows, one), met))
    unsettled = [(shard, ids) for shard, ids in settled if _rows_of(shard, rows).ids != ids]
    keys = {_key(shard) for shard, _ in unsettled}
    keys |= {_key(one.shard) for one in looked if one.members is not None}
    found = table.statuses_of_shards(keys)
    proof.num_double = sum(len(rows) > 1 for images in found.values() for rows in images.values())
    for shard, ids in unsettled:
        now = found[_key(shard)]
        if id_sum(hash_bytes(pa.array(list(now), pa.string()))) != ids:
            proof.wrong.append(
                f"{shard.path}: it had {ids.num} rows at the start of the run, it has {len(now)} "
                "rows now"
            )
    earlier: _Statuses = {key: {} for key in keys}
    if question.only_rows and question.first_version is not None:
        first = ImagesTable.open(question.location, question.first_version)
        earlier = first.statuses_of_shards(keys)
    for one in looked:
        if one.members is not None:
            key, members = _key(one.shard), set(one.members.to_pylist())
            expected = members & earlier[key].keys() if question.only_rows else members
            _compare_ids(one, members, expected, found[key])
        proof.totals.update(one.totals)
        proof.num_gone += one.num_gone
        proof.wrong += one.wrong
        if one.wrong:
            forget_manifest(question.location, *_key(one.shard))
    return proof


@dataclass(slots=True, kw_only=True)
class _Looked(Proof):
    """The result of the proof for one shard that the run processed.

    Attributes:
        shard: the shard.
        members: ids of the images in the manifest of the shard. None if the ids of the shard's rows
            are the same, or if the shard has no manifest.
    """

    shard: Shard
    members: pa.Array | None = None


def _key(shard: Shard) -> tuple[str, str]:
    return shard.archive, shard.path


def _rows_of(shard: Shard, rows: Mapping[tuple[str, str], ShardRows]) -> ShardRows:
    return rows.get(_key(shard), ShardRows())


def _look(question: Question, rows: Mapping[tuple[str, str], ShardRows], met: ShardMet) -> _Looked:
    shard = met.shard
    manifest = read_manifest(question.location, *_key(shard), ["image_id", "member"])
    if manifest is None:
        wrong = [f"{shard.path}: it has no manifest, because it was not read to its end"]
        return _Looked(shard=shard, wrong=wrong)
    looked = _Looked(shard=shard, wrong=list(_against_stream(question, met, manifest)))
    ids = manifest.members.column("image_id").combine_chunks()
    found = _rows_of(shard, rows)
    if found.ids == id_sum(hash_bytes(ids)):
        looked.totals = found.by_status
    else:
        looked.members = ids
    return looked


def _against_stream(question: Question, met: ShardMet, manifest: Manifest) -> Iterator[str]:
    path, num_members = met.shard.path, manifest.members.num_rows
    if met.num_units is not None and manifest.num_units != met.num_units:
        yield f"{path}: {manifest.num_units} units were made, but {met.num_units} were received"
    if not question.only_rows and num_members != met.num_listed:
        yield f"{path}: it has {num_members} images, but {met.num_listed} were received"
    # A folder may change after the store has listed it. The etag in the manifest then differs from
    # the etag in the listing. The size in the listing is out of date, so it is not compared.
    is_listed = manifest.etag == met.shard.etag
    is_whole = manifest.num_bytes == met.shard.size_bytes
    if is_listed and not is_whole and not manifest.is_damaged:
        yield f"{path}: {manifest.num_bytes} of {met.shard.size_bytes} bytes were read"


def _compare_ids(
    looked: _Looked, members: set[str], expected: set[str], found: Mapping[str, list[str]]
) -> None:
    looked.totals = Counter(found[image_id][-1] for image_id in found.keys() & members)
    looked.num_gone = len(found.keys() - members)
    missing = len(expected - found.keys())
    if missing:
        path = looked.shard.path
        looked.wrong.insert(0, f"{path}: {missing} of {len(expected)} images have no row")
