"""Open the ``images`` data set, validate its format, count its rows and look up rows."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
import shlex
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
from skytext.table.store.store_retry import again, while_tags_change
from skytext.table.vector_columns import Role, VectorColumn, VectorKind, read_metadata

_ROWS_AT_ONCE = 10_000_000
LIVE_TAG = "live"
CANARY_TAG = "canary"


class RowState(NamedTuple):
    """The fields of a row that a run needs when it plans its work.

    Attributes:
        unit_id: id of the unit that wrote the row.
        status: ``ok``, ``failed`` or ``withdrawn``.
        attempts: number of failed attempts. It is at least 1 for a failed row, and 0 for every
            other row.
        content_sha256: hash of the encoded image; None if the image could not be read.
        is_shard: true if the row represents an unreadable shard or the unreadable end of a shard,
            and not an image.
        etag: etag of the file from which the image was read.
        caption_fingerprint: fingerprint of the caption settings; None if no captions were written.
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
        by_status: number of rows by status.
        ids: number and sum of the image ids in these rows.
    """

    by_status: Counter[str] = field(default_factory=Counter)
    ids: IdSum = NO_IDS


class DoubleRow(NamedTuple):
    """One of the rows of an image that has several rows."""

    address: int
    status: str
    created_at: dt.datetime


class RowBatch(NamedTuple):
    """Many rows, with one array for each field. A run needs these fields when it plans its work."""

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
    """A described image.

    Attributes:
        member: path of the image in its shard.
        captions: the variants of the description. Each variant is an object ``{one_sentence,
            feature, caption, finish_reason}``.
        vectors: one unit vector per variant; None if the caller did not request the vectors.
        caption_model: the model that wrote the captions.
        image_vector: unit vector of the image; None if the image has no vector or the caller did
            not request the vector.
    """

    member: str
    captions: list[dict[str, Any]]
    vectors: NDArray[np.float32] | None
    caption_model: str | None
    image_vector: NDArray[np.float32] | None = None


class ImagesTable:
    """One version of the ``images`` data set. It is open for reading.

    Attributes:
        location: the table.
        dataset: the version of the data set.
        format_version: format version of the table.
        columns: the vector columns, see `skytext.table.vector_columns`.
        text_column: the active column of caption vectors.
        image_column: the active column of image vectors; None if the version has no image vectors.
    """

    def __init__(self, location: TableLocation, dataset: lance.LanceDataset) -> None:
        self.location = location
        self.dataset = dataset
        self.format_version, columns = read_metadata(location.uri, _metadata(dataset))
        names = set(dataset.schema.names)
        # If a migration from an old format was interrupted, a column may already have its new name.
        named = (c if c.name in names else dataclasses.replace(c, name="") for c in columns)
        self.columns = tuple(column for column in named if column.name in names)
        text, self.image_column = (self._active(kind) for kind in VectorKind)
        missing = sorted({*ROW.names, HIT} - names)
        if text is None or missing:
            raise TableError(
                f"{location.uri} does not have the schema of skytext (missing columns: "
                f"{', '.join(missing) or 'vectors'}). Run skytext caption with the address of a "
                "new table"
            )
        self.text_column = text

    def _active(self, kind: VectorKind) -> VectorColumn | None:
        of_kind = (c for c in self.columns if c.kind == kind and c.role == Role.ACTIVE)
        return next(of_kind, None)

    def find_column(self, wanted: VectorColumn) -> VectorColumn | None:
        """Return the column with the kind and fingerprint of ``wanted``, or None."""
        return next((column for column in self.columns if column.fits(wanted)), None)

    @classmethod
    def open(
        cls,
        location: TableLocation,
        version: int | str | None = None,
        session: lance.Session | None = None,
    ) -> ImagesTable:
        """Open a version of a table.

        Args:
            location: the table.
            version: the version number or the tag; None for the latest version.
            session: a cache. Several versions of the table may use the same cache.

        Raises:
            TableError: the table or the version does not exist, or skytext did not make the table.
        """
        table = cls.find(location, version, session)
        if table is None:
            raise TableError(
                f"there is no table at {location.uri}. To make a table, run: "
                f"skytext caption SOURCE --table {shlex.quote(location.uri)}"
            )
        return table

    @classmethod
    def find(
        cls,
        location: TableLocation,
        version: int | str | None = None,
        session: lance.Session | None = None,
    ) -> ImagesTable | None:
        """Like `open`, but return None if there is no table.

        Raises:
            TableError: the store or the version is not available, or skytext did not make the
                table.
        """
        dataset = open_dataset(location, IMAGES, version, session)
        return None if dataset is None else cls(location, dataset)

    @classmethod
    def open_served(cls, location: TableLocation, version: int | None = None) -> ImagesTable:
        """Open a version of a table. The default is the promoted version.

        Args:
            location: the table.
            version: the version number. If it is None, the promoted version (tag ``live``) is
                opened. If no version is promoted, the latest version is opened.

        Raises:
            TableError: for the same reasons as `open`.
        """
        if version is not None:
            return cls.open(location, version)
        latest = cls.open(location)
        live = latest.live_version()
        return latest if live is None else cls.open(location, live)

    @property
    def version(self) -> int:
        """The number of the open version."""
        return int(self.dataset.version)

    def latest_version(self) -> int:
        """Return the number of the latest version that the table has now."""
        return int(again(lambda: self.dataset.latest_version)())

    def committed_at(self) -> dt.datetime:
        """Return the time of the commit that made this version, in UTC."""
        versions = again(self.dataset.versions)()
        (found,) = [version for version in versions if version["version"] == self.version]
        moment: dt.datetime = found["timestamp"]
        return moment.astimezone(dt.UTC)

    def caption_models(self) -> list[str]:
        """Return the names of the models that wrote the captions, sorted."""
        found: set[str] = set()
        for batch in self._scan(["caption_model"], filter=f"status = '{STATUS_OK}'"):
            found.update(pc.unique(batch.column("caption_model")).drop_null().to_pylist())
        return sorted(found)

    def live_version(self) -> int | None:
        """Return the number of the promoted version, or None if no version is promoted."""
        return self.tags().get(LIVE_TAG)

    def canary_version(self) -> int | None:
        """Return the version number of the canary, or None if no canary is running."""
        return self.tags().get(CANARY_TAG)

    @while_tags_change
    def tags(self) -> dict[str, int]:
        """Return the version number of each tag, by the name of the tag."""
        return {name: int(tag["version"]) for name, tag in again(self.dataset.tags.list)().items()}

    def set_tag(self, name: str, version: int) -> None:
        """Set a tag to a version. The tag is created if it does not exist."""
        if name in self.tags():
            self._tag(self.dataset.tags.update, name, version)
        else:
            self._tag(self.dataset.tags.create, name, version)

    def delete_tag(self, name: str) -> None:
        """Delete a tag. A missing tag is not an error."""
        self._tag(self.dataset.tags.delete, name)

    @staticmethod
    def _tag(change: Callable[..., None], *arguments: str | int) -> None:
        try:
            change(*arguments)
        except (ValueError, OSError) as error:
            # Another process created or deleted the tag. A caller that depends on the result must
            # read the tags again.
            if not re.search("already exists|does not exist|not found", str(error), re.IGNORECASE):
                raise

    def described_images(
        self,
        file_names: Collection[str] | None = None,
        *,
        vectors: bool = True,
        image_vectors: bool = False,
    ) -> Iterator[DescribedImage]:
        """Yield the described images. Only one batch of images is in memory at a time.

        Args:
            file_names: yield only images with these file names; None for all images. The file name
                is the last part of ``member``.
            vectors: also read the caption vectors.
            image_vectors: also read the image vectors, if the version has image vectors.
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
        """Return the number of all rows. Rows of all statuses are counted."""
        return int(self.dataset.count_rows())

    def status_counts(self) -> dict[str, int]:
        """Return the number of rows by status. The result always contains all three statuses."""
        counts: Counter[str] = Counter()
        for batch in self._scan(["status"]):
            counts.update(batch.column("status").to_pylist())
        return {status: counts[status] for status in (STATUS_OK, STATUS_FAILED, STATUS_WITHDRAWN)}

    def failure_counts(self) -> dict[tuple[str, str], int]:
        """Return the number of failed rows by stage and reason, sorted from largest to smallest."""
        counts: Counter[tuple[str, str]] = Counter()
        for batch in self._scan(["failure"], filter=f"status = '{STATUS_FAILED}'"):
            for failure in batch.column("failure").to_pylist():
                counts[(failure["stage"], failure["reason"])] += 1
        return dict(counts.most_common())

    @again
    def described(
        self, contents: Sequence[str], caption_fingerprint: str
    ) -> dict[str, dict[str, Any]]:
        """For each content hash, return one row that has captions.

        Hashes without such a row are omitted.

        Args:
            contents: hashes of encoded images.
            caption_fingerprint: fingerprint that the captions must have.
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
            # Stop early, because one content hash may have a million rows.
            if len(found) == len(set(contents)):
                break
        return found

    def failure_samples(self, num_samples: int) -> list[dict[str, Any]]:
        """Return groups of failed rows with the same stage and reason, the largest group first.

        Each group contains the number of rows in the group, and at most ``num_samples`` of these
        rows.
        """
        groups: dict[tuple[str, str], dict[str, Any]] = {}
        for batch in self._scan(["uri", "failure"], filter=f"status = '{STATUS_FAILED}'"):
            for row in batch.to_pylist():
                failure = row["failure"]
                key = failure["stage"], failure["reason"]
                empty = {"stage": key[0], "reason": key[1], "rows": 0, "samples": []}
                group = groups.setdefault(key, empty)
                group["rows"] += 1
                if len(group["samples"]) < num_samples:
                    details = {"attempts": failure["attempts"], "detail": failure["detail"]}
                    group["samples"].append({"uri": row["uri"], **details})
        return sorted(groups.values(), key=lambda group: -group["rows"])

    @again
    def rows_of_shard(
        self, archive: str, shard: str, fragments: Sequence[int] | None = None
    ) -> dict[str, RowState]:
        """Return the rows of a shard. The keys of the result are image ids.

        If there is an index on ``shard``, it is used. Rows that this index does not cover are
        scanned.

        Args:
            archive: the archive's name.
            shard: the shard's path.
            fragments: ids of the fragments that contain rows of the shard; None for all fragments.
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
        """Return the statuses of all rows in some shards, by ``(archive, shard)`` and by image id.

        Withdrawn rows are omitted. The table is scanned once.
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
        """Return the unit id of each image's row, by image id. Ids without a row are omitted."""
        wanted = pa.array(image_ids, pa.string())
        found: dict[str, str] = {}
        for batch in self._scan(["image_id", "unit_id"]):
            some = batch.filter(pc.is_in(batch.column("image_id"), wanted))
            ids, units = some.column("image_id"), some.column("unit_id")
            found.update(zip(ids.to_pylist(), units.to_pylist(), strict=True))
        return found

    def row_batches(self, caption_fingerprint: str) -> Iterator[RowBatch]:
        """Yield all rows, with the fields that a run needs when it plans its work.

        Args:
            caption_fingerprint: rows with another caption fingerprint are stale.
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
        """Return the counts of rows in each shard, by ``(archive, shard)``.

        Withdrawn rows are omitted. The table is scanned once.
        """
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
        """Return the number of described rows that have a different caption fingerprint."""
        condition = (
            f"status = '{STATUS_OK}' AND caption_fingerprint != {sql_text(caption_fingerprint)}"
        )
        return int(self.dataset.count_rows(filter=condition))

    def num_failed_due(self, max_attempts: int) -> int:
        """Return the number of failed rows with fewer than ``max_attempts`` attempts."""
        condition = f"status = '{STATUS_FAILED}' AND failure.attempts < {int(max_attempts)}"
        return int(self.dataset.count_rows(filter=condition))

    def num_present(self, archive: str) -> int:
        """Return the number of rows of an archive that are not withdrawn."""
        return int(self.dataset.count_rows(filter=f"archive = {sql_text(archive)} AND {PRESENT}"))

    def double_rows(self) -> dict[str, list[DoubleRow]]:
        """Return the rows of each image that has more than one row, by image id."""
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
        # Two different ids may have the same first 64 bits. These images have only one row each, so
        # they are omitted here.
        return {image_id: rows for image_id, rows in found.items() if len(rows) > 1}

    def _double_heads(self) -> Iterator[NDArray[np.uint64]]:
        """Yield arrays of the heads of ids that occur in several rows.

        A head is the first 64 bits of an id.

        A large table is read in sixteen parts, one after the other. Each row of a part needs 8
        bytes of memory.
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
        """Return the row of an arbitrary described image, or None if no image is described."""
        condition = f"status = '{STATUS_OK}'"
        scanner = self.dataset.scanner(columns=list(columns), filter=condition, limit=1)
        found = scanner.to_table().to_pylist()
        return found[0] if found else None

    def rows(self, image_ids: Sequence[str], columns: Sequence[str]) -> list[dict[str, Any]]:
        """Return the rows with these ids, in no particular order. Ids without a row are omitted."""
        if not image_ids:
            return []
        condition = f"image_id IN ({', '.join(sql_text(i) for i in image_ids)})"
        table = self.dataset.to_table(columns=list(columns), filter=condition)
        return list(table.to_pylist())

    def _scan(self, columns: list[str], **options: Any) -> Iterator[pa.RecordBatch]:
        yield from self.dataset.scanner(columns=columns, **options).to_batches()


def sql_text(value: str) -> str:
    """Return ``value`` as a string literal for a Lance filter."""
    return "'" + value.replace("'", "''") + "'"


def open_session(index_cache_bytes: int | None = None) -> lance.Session:
    """Return a cache that several versions of a table can use.

    Args:
        index_cache_bytes: size of the index cache, in bytes; None for Lance's default.
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
    """Open one data set of a table; return None if it does not exist.

    Raises:
        TableError: the store or the version is not available.
    """
    uri = location.dataset_uri(name)
    try:
        return again(lance.LanceDataset)(
            uri, version=version, session=session, **location.lance_options(name)
        )
    except (ValueError, OverflowError) as error:
        # Lance 14 raises ValueError for a missing data set, a missing version and other faults.
        # Only the message of the error identifies the fault.
        message = " ".join(str(error).split())
        if version is None and "was not found" in message:
            return None
        if version is not None:
            raise TableError(
                f"{location.uri} has no version {version!r}. To list the versions, run: "
                f"skytext status {shlex.quote(location.uri)}"
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
