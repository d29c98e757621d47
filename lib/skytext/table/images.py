"""The ``images`` data set: open it, check that it is ours, count and look up its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lance
import pyarrow as pa

from skytext.errors import TableError
from skytext.schema import FORMAT_VERSION, STATUS_FAILED, STATUS_OK, images_schema
from skytext.table.location import IMAGES, TableLocation

_PREFIX = "skytext."
LIVE_TAG = "live"


@dataclass(frozen=True, slots=True)
class TableIdentity:
    """What decides whether a writer or a searcher fits a table; stored in its metadata.

    Attributes:
        embedding_fingerprint: of the model, its prompts and the text layout.
        embedding_model: the model's name, by which a searcher loads it.
        embedding_revision: the hub commit, or empty.
        embedding_dtype: the precision asked for (`EmbedConfig.dtype`).
        dim: length of a vector.
    """

    embedding_fingerprint: str
    embedding_model: str
    embedding_revision: str
    embedding_dtype: str
    dim: int

    def to_metadata(self) -> dict[str, str]:
        """Return the table metadata that `from_metadata` reads."""
        return {
            f"{_PREFIX}format_version": str(FORMAT_VERSION),
            f"{_PREFIX}embedding_fingerprint": self.embedding_fingerprint,
            f"{_PREFIX}embedding_model": self.embedding_model,
            f"{_PREFIX}embedding_revision": self.embedding_revision,
            f"{_PREFIX}embedding_dtype": self.embedding_dtype,
            f"{_PREFIX}dim": str(self.dim),
        }

    @classmethod
    def from_metadata(cls, uri: str, metadata: Mapping[str, str]) -> TableIdentity:
        """Read a table's metadata.

        Raises:
            TableError: it is not a table of ours, or one of another format version.
        """
        version = metadata.get(f"{_PREFIX}format_version")
        if version is None:
            raise TableError(
                f"{uri} was not made by skytext (no skytext.format_version in its metadata): name "
                "another table, or a folder that does not exist yet"
            )
        if version != str(FORMAT_VERSION):
            raise TableError(
                f"{uri} has table format {version}, this skytext reads format {FORMAT_VERSION}: "
                f"install the skytext that wrote it, or caption into a new table"
            )
        return cls(
            embedding_fingerprint=metadata[f"{_PREFIX}embedding_fingerprint"],
            embedding_model=metadata[f"{_PREFIX}embedding_model"],
            embedding_revision=metadata[f"{_PREFIX}embedding_revision"],
            embedding_dtype=metadata[f"{_PREFIX}embedding_dtype"],
            dim=int(metadata[f"{_PREFIX}dim"]),
        )


class ImagesTable:
    """One version of the ``images`` data set, open for reading."""

    def __init__(self, location: TableLocation, dataset: lance.LanceDataset) -> None:
        self.location = location
        self.dataset = dataset
        self.identity = TableIdentity.from_metadata(location.uri, _metadata(dataset))
        _check_schema(location.uri, dataset.schema, self.identity.dim)

    @classmethod
    def open(cls, location: TableLocation, version: int | str | None = None) -> ImagesTable:
        """Open a table at a version number, a tag, or (None) its latest version.

        Raises:
            TableError: there is no such table or version, or it is not one of ours.
        """
        table = cls.find(location, version)
        if table is None:
            raise TableError(
                f"there is no table at {location.uri}: make one with "
                f"skytext caption SOURCE --table {location.uri}"
            )
        return table

    @classmethod
    def find(cls, location: TableLocation, version: int | str | None = None) -> ImagesTable | None:
        """Like `open`, but None where there is no table.

        Raises:
            TableError: the store refuses, there is no such version, or the table is not ours.
        """
        dataset = open_dataset(location, IMAGES, version)
        return None if dataset is None else cls(location, dataset)

    @classmethod
    def open_served(cls, location: TableLocation) -> ImagesTable:
        """Open the promoted version (tag ``live``), or the latest where none is promoted.

        Raises:
            TableError: as `open`.
        """
        latest = cls.open(location)
        live = latest.live_version()
        return latest if live is None else cls.open(location, live)

    @property
    def version(self) -> int:
        """The version that is open."""
        return int(self.dataset.version)

    def live_version(self) -> int | None:
        """Return the promoted version, or None."""
        tag = self.dataset.tags.list().get(LIVE_TAG)
        return None if tag is None else int(tag["version"])

    def promote(self, version: int) -> None:
        """Make ``version`` the one that is served."""
        if self.live_version() is None:
            self.dataset.tags.create(LIVE_TAG, version)
        else:
            self.dataset.tags.update(LIVE_TAG, version)

    def num_rows(self) -> int:
        """Return the number of rows, ``ok`` and ``failed``."""
        return int(self.dataset.count_rows())

    def status_counts(self) -> dict[str, int]:
        """Return the number of rows by ``status``; both keys are always there."""
        counts: Counter[str] = Counter()
        for batch in self._scan(["status"]):
            counts.update(batch.column("status").to_pylist())
        return {STATUS_OK: counts[STATUS_OK], STATUS_FAILED: counts[STATUS_FAILED]}

    def failure_counts(self) -> dict[tuple[str, str], int]:
        """Return the number of failed rows by stage and reason, most first."""
        counts: Counter[tuple[str, str]] = Counter()
        for batch in self._scan(["failure"], filter=f"status = '{STATUS_FAILED}'"):
            for failure in batch.column("failure").to_pylist():
                counts[(failure["stage"], failure["reason"])] += 1
        return dict(counts.most_common())

    def rows_of_shard(self, archive: str, shard: str) -> dict[str, str]:
        """Return the ids of a shard's images that have a row, with their status."""
        condition = f"archive = {sql_text(archive)} AND shard = {sql_text(shard)}"
        found: dict[str, str] = {}
        for batch in self._scan(["image_id", "status"], filter=condition):
            ids, states = batch.column("image_id"), batch.column("status")
            found.update(zip(ids.to_pylist(), states.to_pylist(), strict=True))
        return found

    def counts_by_shard(self) -> dict[tuple[str, str], Counter[str]]:
        """Return, for each ``(archive, shard)``, the number of rows by status."""
        counts: dict[tuple[str, str], Counter[str]] = {}
        for batch in self._scan(["archive", "shard", "status"]):
            groups = (
                pa.table(batch)
                .group_by(["archive", "shard", "status"])
                .aggregate([([], "count_all")])
            )
            for row in groups.to_pylist():
                counter = counts.setdefault((row["archive"], row["shard"]), Counter())
                counter[row["status"]] += row["count_all"]
        return counts

    def num_stale(self, caption_fingerprint: str) -> int:
        """Return the number of rows captioned with other settings than this fingerprint's."""
        condition = (
            f"status = '{STATUS_OK}' AND caption_fingerprint != {sql_text(caption_fingerprint)}"
        )
        return int(self.dataset.count_rows(filter=condition))

    def rows(self, image_ids: Sequence[str], columns: Sequence[str]) -> list[dict[str, Any]]:
        """Return rows by id, in no particular order; ids without a row are left out."""
        if not image_ids:
            return []
        condition = f"image_id IN ({', '.join(sql_text(i) for i in image_ids)})"
        table = self.dataset.to_table(columns=list(columns), filter=condition)
        return list(table.to_pylist())

    def _scan(self, columns: list[str], filter: str | None = None) -> Iterator[pa.RecordBatch]:
        yield from self.dataset.scanner(columns=columns, filter=filter).to_batches()


def sql_text(value: str) -> str:
    """Return ``value`` as a text literal of Lance's filter language."""
    return "'" + value.replace("'", "''") + "'"


def open_dataset(
    location: TableLocation, name: str, version: int | str | None = None
) -> lance.LanceDataset | None:
    """Open one data set of a table, or return None where there is none.

    Raises:
        TableError: the store refuses, or there is no such version.
    """
    uri = location.dataset_uri(name)
    try:
        return lance.dataset(uri, version=version, storage_options=location.storage_options())
    except ValueError as error:
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


def _check_schema(uri: str, schema: pa.Schema, dim: int) -> None:
    expected = images_schema(dim)
    missing = [field.name for field in expected if field.name not in schema.names]
    if missing:
        raise TableError(
            f"{uri} is of another schema (no column {', '.join(missing)}): caption into a new table"
        )
