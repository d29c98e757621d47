"""Read shards into units of samples.

INPUT    one row per shard; see `shard_row`.
OUTPUT   units of `skytext.table.schema.SAMPLE` rows with encoded bytes. If a shard has no new
         images, only the images that must be described again are read.
FAN-OUT  one shard gives many units. Every shard has a last unit, which may have no samples. So the
         units of every shard contain the number of listed images.
ON ERROR a damaged shard becomes one failed sample with the stage ``read``. If only the end of a
         shard is damaged, the end becomes such a sample. If the store does not deliver a shard, the
         last unit of the shard records that the shard is *unread*.

When the reader reaches the end of a shard, it also writes the manifest of the shard.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

from skytext.archive import (
    Member,
    ReadLimits,
    ReadOptions,
    Sample,
    Shard,
    ShardCounts,
    UnavailableError,
    image_id,
    read_shard,
)
from skytext.errors import StoreFaultError
from skytext.run.control.stop_flag import StopFlag
from skytext.run.stages.read_rows import units_of_rows
from skytext.run.units import UnitHead, failure_row, pack
from skytext.table.images_dataset import ImagesTable, RowState
from skytext.table.location import TableLocation
from skytext.table.rows.rows_to_redo import rows_to_redo
from skytext.table.schema import SAMPLE, STATUS_FAILED, STATUS_OK, STATUS_WITHDRAWN
from skytext.table.shards.manifest import MANIFEST, Manifest, write_manifest

# When a list contains this number of members, the list is converted to an Arrow table. Arrow needs
# a tenth of the memory that Python objects need.
_MEMBERS_A_TABLE = 8192


_OF_SHARD = ("archive", "uri", "path", "size_bytes", "etag")


def shard_row(
    shard: Shard, fragments: Sequence[int] | None, num_known: int | None = None
) -> dict[str, Any]:
    """Return a row that describes a shard. The row is an input of `ShardReader`.

    Args:
        shard: the shard.
        fragments: ids of the table fragments that contain rows of the shard; None if any fragment
            may contain such rows.
        num_known: number of images in the shard that have a row. It is set only if the reader must
            fetch single images of the shard. None if the reader must read the whole shard.
    """
    fields = {name: getattr(shard, name) for name in _OF_SHARD}
    return fields | {"fragments": fragments, "num_known": num_known}


@dataclass(frozen=True, slots=True)
class ShardReader:
    """A stage that reads a shard and yields units of the images to process.

    Attributes:
        unit_images: maximum number of images per unit.
        unit_bytes: maximum encoded bytes per unit.
        limits: memory limits of the reader.
        location: the table with the existing rows.
        table_version: the table version that this pass of the run started from; None if there is no
            table.
        run_id: id of the run. It is the prefix of every unit id.
        select: the images to process. ``new`` means images without a row, and images whose bytes
            have changed since their row was written. ``failed`` means images with a failed row.
        described_with: the caption fingerprint of the run, or an empty string. If it is not empty
            and ``select`` is ``new``, images that were described with another fingerprint are also
            described again.
        max_attempts: maximum number of attempts to describe an image. If ``select`` is ``failed``,
            rows with this number of attempts are skipped.
        reading: configured options of the reader.
        stop: the stop flag of the run. If the flag is raised, the reader stops.
        only: ids of the images that an earlier pass has put off. Only these images are processed.
            None to process all images.
    """

    unit_images: int
    unit_bytes: int
    limits: ReadLimits
    location: TableLocation
    table_version: int | None
    run_id: str = "run"
    select: Literal["new", "failed"] = "new"
    described_with: str = ""
    max_attempts: int = 3
    reading: ReadOptions = field(default_factory=ReadOptions)
    stop: StopFlag | None = None
    only: frozenset[str] | None = None

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """Read the shards in a batch, and yield their units."""
        for row in batch.to_pylist():
            fragments, num_known = row.pop("fragments"), row.pop("num_known")
            if num_known is None:
                yield from self.units(Shard(**row), fragments)
            else:
                yield from self._known_units(Shard(**row), fragments, num_known)

    def units(self, shard: Shard, fragments: Sequence[int] | None = None) -> Iterator[pa.Table]:
        """Yield the units of a shard. There is at least one unit.

        The arguments are explained in `shard_row`.
        """
        found = self._rows(shard, fragments)
        cut = _UnitCutter(self, shard, found)
        counts = ShardCounts()
        samples = read_shard(
            shard, limits=self.limits, options=self.reading, counts=counts, is_known=cut.is_known
        )
        try:
            for sample in samples:
                if self.stop is not None and self.stop.is_raised():
                    return
                if cut.add(sample):
                    yield cut.unit()
        except StoreFaultError as error:
            cut.fault = str(error)
            cut.is_store_away = isinstance(error.__cause__, UnavailableError)
        if not cut.fault and self.only is None:
            manifest = Manifest(counts.etag, counts.num_bytes, cut.num_units + 1, cut.members())
            write_manifest(self.location, shard.archive, shard.path, manifest)
        yield cut.last_unit(counts)

    def _known_units(
        self, shard: Shard, fragments: Sequence[int] | None, num_known: int
    ) -> Iterator[pa.Table]:
        """Yield units with only those images of a shard that must be described again."""
        rows = rows_to_redo(
            ImagesTable.open(self.location, self.table_version),
            shard.archive,
            shard.path,
            fragments,
            described_with="" if self.select == "failed" else self.described_with,
            max_attempts=self.max_attempts,
        )
        yield from units_of_rows(
            (row for row in rows if self.only is None or row["image_id"] in self.only),
            UnitHead(
                self.unit_prefix(shard),
                shard.archive,
                shard.path,
                num_listed=num_known,
                num_skipped=num_known,
                shard_bytes_read=shard.size_bytes,
            ),
            unit_images=self.unit_images,
            unit_bytes=self.unit_bytes,
            reading=self.reading,
            is_stopped=lambda: self.stop is not None and self.stop.is_raised(),
        )

    def unit_prefix(self, shard: Shard) -> str:
        """Return the prefix of each unit id of a shard."""
        prefix = f"{self.run_id}/{image_id(shard.archive, shard.path, '', 0)}"
        # Each pass of a run starts from another table version, so each pass has another prefix.
        return prefix if self.only is None else f"{prefix}-v{self.table_version}"

    def _rows(self, shard: Shard, fragments: Sequence[int] | None) -> dict[str, RowState]:
        if self.table_version is None or (fragments is not None and not fragments):
            return {}
        table = ImagesTable.open(self.location, self.table_version)
        return table.rows_of_shard(shard.archive, shard.path, fragments)


class _UnitCutter:
    """Collects the samples of a shard into units, and counts the skipped samples.

    If a node is lost, Ray reads the shard again. The second reading gives the same units, because
    the division into units depends only on the headers of the shard.

    Attributes:
        num_units: number of units that have been made.
        fault: the reason why the store did not deliver the whole shard; otherwise empty.
        is_store_away: whether the reading ended because the store did not respond.
    """

    def __init__(self, reader: ShardReader, shard: Shard, found: dict[str, RowState]) -> None:
        self._reader = reader
        self._shard = shard
        # `add` removes the row of each sample from this dictionary. At the end of the shard, the
        # dictionary contains the rows whose images are no longer in the shard.
        self._found = found
        self._wanted: Callable[[RowState | None, str | None], bool] = (
            self._is_new if reader.select == "new" else self._is_retryable
        )
        self._member_tables: list[pa.Table] = []
        self._forget_members()
        self._prefix = reader.unit_prefix(shard)
        self.num_units = 0
        self.fault = ""
        self.is_store_away = False
        self._position = 0
        self._cut_at = 0
        self._start_unit()

    def _advance(self, sample: Sample) -> None:
        if sample.byte_offset and sample.byte_length is not None:
            self._position = max(self._position, sample.byte_offset + sample.byte_length)
        else:
            # The rows of a Parquet file and the files of a folder are read in order.
            self._position += _num_bytes(sample)

    def _start_unit(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._listed = self._skipped = self._num_cut = self._bytes_cut = 0

    def is_known(self, member: Member) -> bool:
        """Return whether the reader can skip a file of a folder.

        The reader skips a file whose image is not in ``only``. The reader also skips a file if the
        etag of the file equals the etag in its row and the image need not be described again.
        """
        if self._is_left_out(member.image_id):
            return True
        row = self._found.get(member.image_id)
        if row is None or row.content_sha256 is None or row.etag != member.etag:
            return False
        return not self._wanted(row, row.content_sha256)

    def add(self, sample: Sample) -> bool:
        """Add a sample to the current unit; return whether the unit is full."""
        self._advance(sample)
        row = self._found.pop(sample.image_id, None)
        if self._is_left_out(sample.image_id):
            return False
        if sample.fault is not None:
            self.fault = self.fault or f"{sample.uri} was not read: {sample.fault}"
            return self._count_cut(sample)
        content = self._content(sample, row)
        self._remember(sample, content)
        has_row = row is not None and row.status != STATUS_WITHDRAWN
        if not has_row and self._reader.select == "failed":
            return False
        self._listed += 1
        if not self._wanted(row, content):
            self._skipped += 1
            return False
        self._rows.append(_replacing(sample_row(sample), row, content))
        return self._count_cut(sample)

    def _is_left_out(self, image_id: str) -> bool:
        return self._reader.only is not None and image_id not in self._reader.only

    def _count_cut(self, sample: Sample) -> bool:
        self._num_cut += 1
        self._bytes_cut += _num_bytes(sample)
        is_full = self._num_cut >= self._reader.unit_images
        return is_full or self._bytes_cut >= self._reader.unit_bytes

    @staticmethod
    def _content(sample: Sample, row: RowState | None) -> str | None:
        if sample.data is not None:
            return hashlib.sha256(sample.data).hexdigest()
        # If a sample has no bytes and no failure, the reader skipped it, and its row is up to date.
        return row.content_sha256 if row is not None and sample.failure is None else None

    def unit(self) -> pa.Table:
        """Return the current unit, and start the next unit."""
        return self._pack(self._position - self._cut_at)

    def last_unit(self, counts: ShardCounts) -> pa.Table:
        """Return the last unit of the shard.

        The unit contains the remaining samples, the number of ignored files, and the store error if
        there was one.
        """
        num_bytes = max(self._shard.size_bytes - self._cut_at, 0)
        # An earlier run may have made a row because the shard was unreadable. If this run has read
        # the shard to its end, this row must be removed.
        is_whole = not self.fault and self._reader.only is None
        removes = tuple(i for i, row in self._found.items() if row.is_shard and is_whole)
        return self._pack(num_bytes, removes, self.fault, tuple(counts.ignored.items()))

    def members(self) -> pa.Table:
        """Return the members of the shard, with schema `skytext.table.shards.manifest.MANIFEST`."""
        return pa.concat_tables([*self._member_tables, pa.table(self._members, schema=MANIFEST)])

    def _pack(
        self,
        num_bytes: int,
        removes: tuple[str, ...] = (),
        fault: str = "",
        ignored: tuple[tuple[str, int], ...] = (),
    ) -> pa.Table:
        head = UnitHead(
            f"{self._prefix}-{self.num_units}",
            self._shard.archive,
            self._shard.path,
            self._listed,
            self._skipped,
            num_bytes,
            removes,
            fault,
            is_store_away=self.is_store_away,
            ignored=ignored,
        )
        unit = pack(head, pa.Table.from_pylist(self._rows, schema=SAMPLE))
        self.num_units += 1
        self._cut_at = self._position
        self._start_unit()
        return unit

    def _remember(self, sample: Sample, content: str | None) -> None:
        for name, values in self._members.items():
            value = content if name == "content_sha256" else getattr(sample, name, None)
            values.append(value)
        if len(self._members["image_id"]) >= _MEMBERS_A_TABLE:
            self._member_tables.append(pa.table(self._members, schema=MANIFEST))
            self._forget_members()

    def _forget_members(self) -> None:
        self._members: dict[str, list[Any]] = {name: [] for name in MANIFEST.names}

    def _is_new(self, row: RowState | None, content: str | None) -> bool:
        if row is None or row.status == STATUS_WITHDRAWN:
            return True
        return _has_other_bytes(row, content) or (content is not None and self._is_stale(row))

    def _is_stale(self, row: RowState) -> bool:
        ours = self._reader.described_with
        return bool(ours) and row.status == STATUS_OK and row.caption_fingerprint != ours

    def _is_retryable(self, row: RowState | None, content: str | None) -> bool:
        if row is None or row.status != STATUS_FAILED:
            return False
        return row.attempts < self._reader.max_attempts


def _num_bytes(sample: Sample) -> int:
    """Return the size of an image in bytes. If the header contains the size, use this value."""
    return len(sample.data or b"") if sample.byte_length is None else sample.byte_length


def _has_other_bytes(row: RowState, content: str | None) -> bool:
    """Return whether the bytes of an image have changed since its row was written.

    Args:
        row: the row of the image.
        content: hash of the bytes that were read; None if the image was unreadable.
    """
    if row.content_sha256 is None:
        # If a failed row has no hash, the bytes of the image were missing when the row was made.
        return content is not None and row.status == STATUS_FAILED
    # If the image is now unreadable, its row stays.
    return content is not None and content != row.content_sha256


def _replacing(fields: dict[str, Any], row: RowState | None, content: str | None) -> dict[str, Any]:
    if row is None:
        return fields | {"content_sha256": content}
    return fields | {
        "content_sha256": content,
        "replaces_unit": row.unit_id,
        # If the bytes have changed, the attempts with the earlier bytes do not count.
        "earlier_attempts": 0 if _has_other_bytes(row, content) else row.attempts,
        "keeps_row": row.status == STATUS_OK and not _has_other_bytes(row, content),
    }


def sample_row(sample: Sample) -> dict[str, Any]:
    """Return a sample as a row of `skytext.table.schema.SAMPLE`."""
    row = {name: getattr(sample, name, None) for name in SAMPLE.names}
    if sample.bbox is not None:
        row["bbox"] = dict(zip(("west", "south", "east", "north"), sample.bbox, strict=True))
    if sample.failure is not None:
        row["failure"] = failure_row(sample.failure)
    return row
