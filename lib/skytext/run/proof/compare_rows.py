"""Prove at the end of a run that the table has one row for every image.

INPUT    what the run met in each shard, and the table's version.
OUTPUT   `Proof`: rows by status, and every shard whose evidence does not agree.
FAN-OUT  one task; one manifest for each shard that the run read.
ON ERROR the run ends without its proof: a job error.

The evidence does not come from the stream of units alone. The listing of the store says which
shards there are. The manifest of a shard, which only a reader that came to the shard's end writes,
says how many bytes and which images are in it. The table says which images have rows. A manifest
that does not agree is deleted, so that the next run reads the shard again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from skytext.archive import Shard
from skytext.run.control.driver_node import run_on_driver_node
from skytext.table.id_sums import IdSum, hash_bytes, id_sum
from skytext.table.images_dataset import ImagesTable, ShardRows
from skytext.table.location import TableLocation
from skytext.table.manifest import Manifest, forget_manifest, read_manifest
from skytext.table.store_retry import again

_THREADS = 16


@dataclass(frozen=True, slots=True)
class ShardMet:
    """What a run met in a shard that it read to its end.

    Attributes:
        shard: as the store listed it.
        num_listed: images in its units.
        num_units: units whose records came.
    """

    shard: Shard
    num_listed: int
    num_units: int


@dataclass(frozen=True, slots=True)
class Question:
    """What a proof is about.

    Attributes:
        location: the table.
        version: the one that the run made or saw last; None where there is no table.
        first_version: the one that it started from; None where there was no table.
        caption_fingerprint: rows with another one are stale.
        only_rows: images without a row were left alone, as ``retry-failed`` does.
    """

    location: TableLocation
    version: int | None
    first_version: int | None
    caption_fingerprint: str
    only_rows: bool = False


@dataclass(slots=True)
class Proof:
    """What the evidence says.

    Attributes:
        totals: rows by status, of images that are in the shards now.
        num_gone: rows of images that are not there any more.
        num_stale: rows made with another caption fingerprint.
        num_double: images with more than one row.
        wrong: what does not agree, a line for each shard.
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
        question: the table and its version.
        met: the shards that the run read to their ends.
        settled: the shards in which there was nothing to do, and the rows that they had.
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
    proof.num_double = table.num_double()
    for shard, ids in settled:
        found = rows.get((shard.archive, shard.path), ShardRows())
        if found.ids != ids:
            proof.wrong.append(f"{shard.path}: {ids.num} rows at the start, {found.ids.num} now")
    check = _ShardCheck(question, table, rows)
    with ThreadPoolExecutor(_THREADS) as pool:
        for result in pool.map(check, met):
            proof.totals.update(result.totals)
            proof.num_gone += result.num_gone
            proof.wrong += result.wrong
    return proof


@dataclass(frozen=True, slots=True)
class _ShardCheck:
    """Compares the manifest of a shard with what the run met and with the shard's rows."""

    question: Question
    table: ImagesTable
    rows: dict[tuple[str, str], ShardRows]

    def __call__(self, met: ShardMet) -> Proof:
        shard = met.shard
        manifest = read_manifest(
            self.question.location, shard.archive, shard.path, ["image_id", "member"]
        )
        if manifest is None:
            return Proof(wrong=[f"{shard.path}: no manifest: it was not read to its end"])
        proof = self._compare_rows(shard, manifest)
        proof.wrong += self._against_stream(met, manifest)
        if proof.wrong:
            forget_manifest(self.question.location, shard.archive, shard.path)
        return proof

    def _against_stream(self, met: ShardMet, manifest: Manifest) -> Iterable[str]:
        path, num_members = met.shard.path, manifest.members.num_rows
        if manifest.num_units != met.num_units:
            yield f"{path}: {manifest.num_units} units were cut, {met.num_units} came"
        if not self.question.only_rows and num_members != met.num_listed:
            yield f"{path}: {num_members} images are in it, {met.num_listed} came"
        # A folder that changed after it was listed was read as it is now.
        is_listed = manifest.etag == met.shard.etag
        is_whole = manifest.num_bytes == met.shard.size_bytes
        if is_listed and not is_whole and not manifest.is_damaged:
            yield f"{path}: {manifest.num_bytes} of {met.shard.size_bytes} bytes were read"

    def _compare_rows(self, shard: Shard, manifest: Manifest) -> Proof:
        ids = manifest.members.column("image_id").combine_chunks()
        found = self.rows.get((shard.archive, shard.path), ShardRows())
        if found.ids == id_sum(hash_bytes(ids)):
            return Proof(totals=found.by_status)
        members = set(ids.to_pylist())
        states = self.table.rows_of_shard(shard.archive, shard.path)
        expected = members & self._earlier_ids(shard) if self.question.only_rows else members
        proof = Proof(
            totals=Counter(row.status for image_id, row in states.items() if image_id in members),
            num_gone=len(states.keys() - members),
        )
        missing = expected - states.keys()
        if missing:
            proof.wrong.append(
                f"{shard.path}: {len(missing)} of {len(expected)} images have no row"
            )
        return proof

    def _earlier_ids(self, shard: Shard) -> set[str]:
        if self.question.first_version is None:
            return set()
        table = ImagesTable.open(self.question.location, self.question.first_version)
        return set(table.rows_of_shard(shard.archive, shard.path))
