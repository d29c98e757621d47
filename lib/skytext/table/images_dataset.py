"""The ``images`` data set: open it, check that it is ours, count and look up its rows."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from skytext.errors import TableError
from skytext.table.id_sums import NO_IDS, IdSum, hash_bytes, heads
from skytext.table.location import IMAGES, TableLocation
from skytext.table.schema import (
    HIT,
    PRESENT,
    ROW,
    STATUS_FAILED,
    STATUS_OK,
    STATUS_WITHDRAWN,
)
from skytext.table.store_retry import again
from skytext.table.vector_columns import Role, VectorColumn, VectorKind, read_metadata

_ROWS_AT_ONCE = 10_000_000
LIVE_TAG = "live"


class RowState(NamedTuple):
    """What a row says of its image, as far as it decides what a run does.

    Attributes:
        unit_id: the unit that wrote it.
        status: ``ok``, ``failed`` or ``withdrawn``.
        attempts: of a failed one, at least 1.
        content_sha256: of the encoded image; None where it could not be read.
        is_shard: it stands for an unreadable shard, or the unreadable tail of one.
        etag: of the file that held its bytes.
        caption_fingerprint: of the settings that it was described with; None where it failed.
    """

    unit_id: str
    status: str
    attempts: int
    content_sha256: str | None
    is_shard: bool
    etag: str | None
    caption_fingerprint: str | None


@dataclass(slots=True)
class ShardRows:
    """The rows of one shard.

    Attributes:
        by_status: rows by status.
        ids: their ids.
    """

    by_status: Counter[str] = field(default_factory=Counter)
    ids: IdSum = NO_IDS


class DoubleRow(NamedTuple):
    """One row of an image that has several."""

    address: int
    status: str
    created_at: dt.datetime


class RowBatch(NamedTuple):
    """Some rows as columns, as far as they decide what a run does; see `RowState`."""

    image_id: pa.Array
    archive: pa.Array
    shard: pa.Array
    shard_etag: pa.Array
    content_sha256: pa.Array
    attempts: pa.Array
    is_ok: pa.Array
    is_stale: pa.Array
    is_withdrawn: pa.Array
    is_shard: pa.Array
    has_place: pa.Array
    fragment: pa.Array


class DescribedImage(NamedTuple):
    """An image that is done: where it lies in its shard, and what was made of it.

    Attributes:
        member: its path in the shard.
        captions: the variants, ``{one_sentence, feature, caption, finish_reason}`` each.
        vectors: one unit vector a variant; None where they were not asked for.
        caption_model: who described it.
        image_vector: its own unit vector; None where it has none or it was not asked for.
    """

    member: str
    captions: list[dict[str, Any]]
    vectors: NDArray[np.float32] | None
    caption_model: str | None
    image_vector: NDArray[np.float32] | None = None


class ImagesTable:
    """One version of the ``images`` data set, open for reading.

    Attributes:
        location: the table.
        dataset: the version.
        format_version: of the table.
        columns: of vectors, see `skytext.table.vector_columns`.
        text_column: the one of them with the vectors of the descriptions.
        image_column: the one with the images' own vectors; None where there is none.
    """

    def __init__(self, location: TableLocation, dataset: lance.LanceDataset) -> None:
        self.location = location
        self.dataset = dataset
        self.format_version, columns = read_metadata(location.uri, _metadata(dataset))
        names = set(dataset.schema.names)
        # A migration that has not come to its end may have renamed columns of an old format.
        named = (c if c.name in names else dataclasses.replace(c, name="") for c in columns)
        self.columns = tuple(column for column in named if column.name in names)
        text, self.image_column = (self._active(kind) for kind in VectorKind)
        missing = sorted({*ROW.names, HIT} - names)
        if text is None or missing:
            raise TableError(
                f"{location.uri} is of another schema (no column "
                f"{', '.join(missing) or 'of vectors'}): caption into a new table"
            )
        self.text_column = text

    def _active(self, kind: VectorKind) -> VectorColumn | None:
        of_kind = (c for c in self.columns if c.kind == kind and c.role == Role.ACTIVE)
        return next(of_kind, None)

    def find_column(self, wanted: VectorColumn) -> VectorColumn | None:
        """Return the column that holds vectors of this kind and fingerprint, or None."""
        return next((column for column in self.columns if column.fits(wanted)), None)

    @classmethod
    def open(
        cls,
        location: TableLocation,
        version: int | str | None = None,
        session: lance.Session | None = None,
    ) -> ImagesTable:
        """Open a table at a version number, a tag, or (None) its latest version.

        Args:
            location: the table.
            version: which one.
            session: caches to share with other versions of the table.

        Raises:
            TableError: there is no such table or version, or it is not one of ours.
        """
        table = cls.find(location, version, session)
        if table is None:
            raise TableError(
                f"there is no table at {location.uri}: make one with "
                f"skytext caption SOURCE --table {location.uri}"
            )
        return table

    @classmethod
    def find(
        cls,
        location: TableLocation,
        version: int | str | None = None,
        session: lance.Session | None = None,
    ) -> ImagesTable | None:
        """Like `open`, but None where there is no table.

        Raises:
            TableError: the store refuses, there is no such version, or the table is not ours.
        """
        dataset = open_dataset(location, IMAGES, version, session)
        return None if dataset is None else cls(location, dataset)

    @classmethod
    def open_served(cls, location: TableLocation, version: int | None = None) -> ImagesTable:
        """Open what a reader gets: the version that is named, or the promoted one.

        Args:
            location: the table.
            version: None for the promoted version (tag ``live``), or the latest where none is.

        Raises:
            TableError: as `open`.
        """
        if version is not None:
            return cls.open(location, version)
        latest = cls.open(location)
        live = latest.live_version()
        return latest if live is None else cls.open(location, live)

    @property
    def version(self) -> int:
        """The version that is open."""
        return int(self.dataset.version)

    def latest_version(self) -> int:
        """Return the table's latest version, as it is now."""
        return int(again(lambda: self.dataset.latest_version)())

    def committed_at(self) -> dt.datetime:
        """Return when this version was committed, in UTC."""
        versions = again(self.dataset.versions)()
        (found,) = [version for version in versions if version["version"] == self.version]
        moment: dt.datetime = found["timestamp"]
        return moment.astimezone(dt.UTC)

    def caption_models(self) -> list[str]:
        """Return the models that described the images, sorted."""
        found: set[str] = set()
        for batch in self._scan(["caption_model"], filter=f"status = '{STATUS_OK}'"):
            found.update(pc.unique(batch.column("caption_model")).drop_null().to_pylist())
        return sorted(found)

    def live_version(self) -> int | None:
        """Return the promoted version, or None."""
        return self.tags().get(LIVE_TAG)

    def tags(self) -> dict[str, int]:
        """Return the version of each tag, as they are now."""
        return {name: int(tag["version"]) for name, tag in again(self.dataset.tags.list)().items()}

    def set_tag(self, name: str, version: int) -> None:
        """Point a tag at a version, whether it is there already or not."""
        if name in self.tags():
            self._tag(self.dataset.tags.update, name, version)
        else:
            self._tag(self.dataset.tags.create, name, version)

    def delete_tag(self, name: str) -> None:
        """Delete a tag; one that is gone already is no error."""
        self._tag(self.dataset.tags.delete, name)

    @staticmethod
    def _tag(change: Callable[..., None], *arguments: str | int) -> None:
        try:
            change(*arguments)
        except (ValueError, OSError) as error:
            # Made or deleted by somebody else meanwhile; who cares looks again.
            if not re.search("already exists|does not exist|not found", str(error), re.IGNORECASE):
                raise

    def described_images(
        self,
        file_names: Collection[str] | None = None,
        *,
        vectors: bool = True,
        image_vectors: bool = False,
    ) -> Iterator[DescribedImage]:
        """Yield the images that are done, a batch in memory at a time.

        Args:
            file_names: only images of these names (the last part of ``member``); None for all.
            vectors: read the vectors too.
            image_vectors: read the images' own vectors too; the version must have some.
        """
        wanted = None if file_names is None else pa.array(list(file_names), pa.string())
        columns = [
            "member",
            "captions",
            "caption_model",
            *([self.text_column.name] if vectors else []),
        ]
        own_name = self.image_column.name if image_vectors and self.image_column else None
        columns += [] if own_name is None else [own_name]
        for batch in self._scan(columns, filter=f"status = '{STATUS_OK}'"):
            if wanted is not None:
                names = pc.replace_substring_regex(batch.column("member"), r"(?s)^.*[/\\]", "")
                batch = batch.filter(pc.is_in(names, wanted))
            members, captions = batch.column("member"), batch.column("captions")
            models = batch.column("caption_model")
            of_rows: list[Any] = [None] * batch.num_rows
            if vectors:
                column = batch.column(self.text_column.name)
                counts = pc.list_value_length(column).to_numpy(zero_copy_only=False)
                flat = column.flatten().flatten().to_numpy(zero_copy_only=False)
                whole = flat.astype(np.float32).reshape(-1, self.text_column.dim)
                of_rows = np.split(whole, np.cumsum(counts)[:-1]) if len(counts) else []
            own = [] if own_name is None else batch.column(own_name).to_pylist()
            for i in range(batch.num_rows):
                vector = np.array(own[i], np.float32) if own and own[i] is not None else None
                yield DescribedImage(
                    members[i].as_py(), captions[i].as_py(), of_rows[i], models[i].as_py(), vector
                )

    def num_rows(self) -> int:
        """Return the number of rows, whatever their status."""
        return int(self.dataset.count_rows())

    def status_counts(self) -> dict[str, int]:
        """Return the number of rows by ``status``; all three keys are always there."""
        counts: Counter[str] = Counter()
        for batch in self._scan(["status"]):
            counts.update(batch.column("status").to_pylist())
        return {status: counts[status] for status in (STATUS_OK, STATUS_FAILED, STATUS_WITHDRAWN)}

    def failure_counts(self) -> dict[tuple[str, str], int]:
        """Return the number of failed rows by stage and reason, most first."""
        counts: Counter[tuple[str, str]] = Counter()
        for batch in self._scan(["failure"], filter=f"status = '{STATUS_FAILED}'"):
            for failure in batch.column("failure").to_pylist():
                counts[(failure["stage"], failure["reason"])] += 1
        return dict(counts.most_common())

    @again
    def described(
        self, contents: Sequence[str], caption_fingerprint: str
    ) -> dict[str, dict[str, Any]]:
        """Return some row of each content that has one, as far as it tells the captions.

        Args:
            contents: hashes of encoded images.
            caption_fingerprint: how they must have been described.
        """
        condition = (
            f"content_sha256 IN ({', '.join(map(sql_text, contents))}) AND captions IS NOT NULL "
            f"AND caption_fingerprint = {sql_text(caption_fingerprint)}"
        )
        found: dict[str, dict[str, Any]] = {}
        columns = ["content_sha256", "captions"]
        columns += ["engine_version", "caption_device", "caption_precision"]
        for batch in self._scan(columns, filter=condition):
            for row in batch.to_pylist():
                found.setdefault(row["content_sha256"], row)
            # Of one content there may be a million rows.
            if len(found) == len(set(contents)):
                break
        return found

    def failure_samples(self, num_samples: int) -> list[dict[str, Any]]:
        """Return the failures by stage and reason, most first, each with some of its rows."""
        groups: dict[tuple[str, str], dict[str, Any]] = {}
        for batch in self._scan(["uri", "failure"], filter=f"status = '{STATUS_FAILED}'"):
            for row in batch.to_pylist():
                failure = row["failure"]
                key = failure["stage"], failure["reason"]
                empty = {"stage": key[0], "reason": key[1], "rows": 0, "samples": []}
                group = groups.setdefault(key, empty)
                group["rows"] += 1
                if len(group["samples"]) < num_samples:
                    told = {"attempts": failure["attempts"], "detail": failure["detail"]}
                    group["samples"].append({"uri": row["uri"], **told})
        return sorted(groups.values(), key=lambda group: -group["rows"])

    @again
    def rows_of_shard(
        self, archive: str, shard: str, fragments: Sequence[int] | None = None
    ) -> dict[str, RowState]:
        """Return what there is of a shard's images, by id.

        An index on ``shard`` is used where there is one. Rows that no index covers are scanned.

        Args:
            archive: the archive's name.
            shard: the shard's path.
            fragments: the fragments that hold its rows; None to look at all of them.
        """
        condition = f"archive = {sql_text(archive)} AND shard = {sql_text(shard)}"
        found: dict[str, RowState] = {}
        columns = ["image_id", "unit_id", "status", "failure", "content_sha256", "member"]
        columns += ["shard_etag", "caption_fingerprint"]
        some = None if fragments is None else [self.dataset.get_fragment(i) for i in fragments]
        for batch in self._scan(columns, filter=condition, fragments=some):
            for row in batch.to_pylist():
                failure = row["failure"]
                found[row["image_id"]] = RowState(
                    row["unit_id"],
                    row["status"],
                    0 if failure is None else failure["attempts"],
                    row["content_sha256"],
                    row["member"] == "",
                    row["shard_etag"],
                    row["caption_fingerprint"],
                )
        return found

    @again
    def statuses_of_shards(
        self, shards: Collection[tuple[str, str]]
    ) -> dict[tuple[str, str], dict[str, list[str]]]:
        """Return the statuses of the rows of each image, by ``(archive, shard)``, in one scan.

        Withdrawn rows are left out.
        """
        found: dict[tuple[str, str], dict[str, list[str]]] = {key: {} for key in shards}
        if not found:
            return found
        wanted = pa.array({shard for _, shard in found}, pa.string())
        for batch in self._scan(["archive", "shard", "image_id", "status"], filter=PRESENT):
            some = batch.filter(pc.is_in(batch.column("shard"), wanted))
            for archive, shard, image_id, status in zip(
                *(column.to_pylist() for column in some.columns), strict=True
            ):
                if (archive, shard) in found:
                    found[archive, shard].setdefault(image_id, []).append(status)
        return found

    @again
    def units_of(self, image_ids: Collection[str]) -> dict[str, str]:
        """Return the unit of each image's row; ids without a row are left out."""
        wanted = pa.array(image_ids, pa.string())
        found: dict[str, str] = {}
        for batch in self._scan(["image_id", "unit_id"]):
            some = batch.filter(pc.is_in(batch.column("image_id"), wanted))
            ids, units = some.column("image_id"), some.column("unit_id")
            found.update(zip(ids.to_pylist(), units.to_pylist(), strict=True))
        return found

    def row_batches(self, caption_fingerprint: str) -> Iterator[RowBatch]:
        """Yield, for all rows, what decides what a run does.

        Args:
            caption_fingerprint: rows done with another one are stale.
        """
        columns = {
            "image_id": "image_id",
            "archive": "archive",
            "shard": "shard",
            "shard_etag": "shard_etag",
            "content_sha256": "content_sha256",
            "attempts": "failure.attempts",
            "is_ok": f"status = '{STATUS_OK}'",
            "is_stale": f"caption_fingerprint != {sql_text(caption_fingerprint)}",
            "is_withdrawn": f"status = '{STATUS_WITHDRAWN}'",
            "is_shard": "member = ''",
            "has_place": (
                "content_sha256 IS NOT NULL AND (byte_offset IS NOT NULL OR row IS NOT NULL)"
            ),
        }
        for batch in self.dataset.scanner(columns=columns, with_row_address=True).to_batches():
            fragment = pc.shift_right(batch.column("_rowaddr"), pa.scalar(32, pa.uint64()))
            yield RowBatch._make([*(batch.column(name) for name in columns), fragment])

    def rows_by_shard(self) -> dict[tuple[str, str], ShardRows]:
        """Return what there is of each ``(archive, shard)``, in one scan; withdrawn rows apart."""
        found: dict[tuple[str, str], ShardRows] = {}
        columns = ["archive", "shard", "status"]
        for batch in self._scan([*columns, "image_id"], filter=PRESENT):
            table = pa.table(batch)
            table = table.set_column(
                3, "head", pa.array(heads(hash_bytes(batch.column("image_id"))), pa.uint64())
            )
            groups = table.group_by(columns).aggregate([([], "count_all"), ("head", "sum")])
            for row in groups.to_pylist():
                rows = found.setdefault((row["archive"], row["shard"]), ShardRows())
                rows.by_status[row["status"]] += row["count_all"]
                total = (rows.ids.total + row["head_sum"]) % 2**64
                rows.ids = IdSum(rows.ids.num + row["count_all"], total)
        return found

    def num_stale(self, caption_fingerprint: str) -> int:
        """Return the number of rows captioned with other settings than this fingerprint's."""
        condition = (
            f"status = '{STATUS_OK}' AND caption_fingerprint != {sql_text(caption_fingerprint)}"
        )
        return int(self.dataset.count_rows(filter=condition))

    def num_failed_due(self, max_attempts: int) -> int:
        """Return the number of failed rows that failed less than so often."""
        condition = f"status = '{STATUS_FAILED}' AND failure.attempts < {int(max_attempts)}"
        return int(self.dataset.count_rows(filter=condition))

    def num_present(self, archive: str) -> int:
        """Return the number of rows of an archive that are not withdrawn."""
        return int(self.dataset.count_rows(filter=f"archive = {sql_text(archive)} AND {PRESENT}"))

    def double_rows(self) -> dict[str, list[DoubleRow]]:
        """Return the rows of the images that have more than one, by image, all in memory."""
        doubles = np.concatenate([np.empty(0, np.uint64), *self._double_heads()])
        if not len(doubles):
            return {}
        found: dict[str, list[DoubleRow]] = {}
        columns = ["image_id", "status", "created_at"]
        scanner = self.dataset.scanner(columns=columns, with_row_address=True)
        for batch in scanner.to_batches():
            is_double = np.isin(heads(hash_bytes(batch.column("image_id"))), doubles)
            for row in batch.filter(pa.array(is_double)).to_pylist():
                kept = DoubleRow(row["_rowaddr"], row["status"], row["created_at"])
                found.setdefault(row["image_id"], []).append(kept)
        # Two ids may begin with the same 64 bits.
        return {image_id: rows for image_id, rows in found.items() if len(rows) > 1}

    def _double_heads(self) -> Iterator[NDArray[np.uint64]]:
        """Yield the first 64 bits that several rows' ids share.

        Sixteenth by sixteenth of a large table: 8 bytes a row of one part in memory.
        """
        digits = "0123456789abcdef" if self.num_rows() > _ROWS_AT_ONCE else " "
        for digit in digits:
            condition = f"starts_with(image_id, '{digit}')" if digit.strip() else None
            scanned = self._scan(["image_id"], filter=condition)
            parts = [heads(hash_bytes(batch.column("image_id"))) for batch in scanned]
            found, counts = np.unique(
                np.concatenate([np.empty(0, np.uint64), *parts]), return_counts=True
            )
            yield found[counts > 1]

    def some_row(self, columns: Sequence[str]) -> dict[str, Any] | None:
        """Return some image that is done, or None where there is none."""
        condition = f"status = '{STATUS_OK}'"
        scanner = self.dataset.scanner(columns=list(columns), filter=condition, limit=1)
        found = scanner.to_table().to_pylist()
        return found[0] if found else None

    def rows(self, image_ids: Sequence[str], columns: Sequence[str]) -> list[dict[str, Any]]:
        """Return rows by id, in no particular order; ids without a row are left out."""
        if not image_ids:
            return []
        condition = f"image_id IN ({', '.join(sql_text(i) for i in image_ids)})"
        table = self.dataset.to_table(columns=list(columns), filter=condition)
        return list(table.to_pylist())

    def _scan(self, columns: list[str], **options: Any) -> Iterator[pa.RecordBatch]:
        yield from self.dataset.scanner(columns=columns, **options).to_batches()


def sql_text(value: str) -> str:
    """Return ``value`` as a text literal of Lance's filter language."""
    return "'" + value.replace("'", "''") + "'"


def open_session(index_cache_bytes: int | None = None) -> lance.Session:
    """Return caches that versions of a table share.

    Args:
        index_cache_bytes: of opened indexes; None for Lance's own default.
    """
    if index_cache_bytes is None:
        return lance.Session()
    return lance.Session(index_cache_size_bytes=index_cache_bytes)


def open_dataset(
    location: TableLocation,
    name: str,
    version: int | str | None = None,
    session: lance.Session | None = None,
) -> lance.LanceDataset | None:
    """Open one data set of a table, or return None where there is none.

    Raises:
        TableError: the store refuses, or there is no such version.
    """
    uri = location.dataset_uri(name)
    try:
        return again(lance.LanceDataset)(
            uri, version=version, session=session, **location.lance_options(name)
        )
    except (ValueError, OverflowError) as error:
        # Lance 14 raises ValueError for a data set that is not there, for a version that is not
        # there, and for much else: only the text tells.
        message = " ".join(str(error).split())
        if version is None and "was not found" in message:
            return None
        if version is not None:
            raise TableError(
                f"{location.uri} has no version {version!r}: skytext status {location.uri} lists "
                "what there is"
            ) from error
        raise TableError(f"cannot open the table {location.uri}: {message}") from error
    except OSError as error:
        message = " ".join(str(error).split())[:300]
        raise TableError(
            f"cannot open the table {location.uri}: {message} (check the address, and the AWS_* "
            "variables or profile)"
        ) from error


def _metadata(dataset: lance.LanceDataset) -> dict[str, str]:
    metadata = dataset.schema.metadata or {}
    return {key.decode(): value.decode(errors="replace") for key, value in metadata.items()}
