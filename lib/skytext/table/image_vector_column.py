"""The column of image vectors: one nullable unit vector a row, by one model for the whole column.

The column stands last in the schema and is there only once images were embedded. Rows that are
captioned later have none in their files, which reads as null. Which model made it stands in the
table's metadata, version by version like the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from lance.commit import CommitConflictError as LanceConflict

from skytext.errors import CommitConflictError, JobError, TableError, disk_failure
from skytext.table.images_dataset import IMAGE_VECTOR, ImagesTable
from skytext.table.location import TableLocation
from skytext.table.schema import PIXEL_FIELDS, SOURCE_FIELDS, STATUS_OK
from skytext.table.store_retry import again

IMAGE_VECTOR_INDEX = "image_vector_idx"
_PREFIX = "skytext.image_"
LISTED = [field.name for field in (*SOURCE_FIELDS, *PIXEL_FIELDS)]
"""What must be known of a row to fetch its image again, and to see that it is the same."""
DONE = f"status = '{STATUS_OK}'"
EMBEDDED = f"{DONE} AND {IMAGE_VECTOR} IS NOT NULL"


@dataclass(frozen=True, slots=True)
class ImageIdentity:
    """What decides whether a writer or a searcher fits a table's image vectors.

    Attributes:
        fingerprint: of the model and the pixels it saw.
        model: the model's name, by which a searcher loads it.
        revision: the hub commit, or empty.
        dim: length of a vector.
    """

    fingerprint: str
    model: str
    revision: str
    dim: int

    def to_metadata(self) -> dict[str, str]:
        """Return the metadata that `from_metadata` reads."""
        return {f"{_PREFIX}{name}": str(getattr(self, name)) for name in self.__slots__}

    @classmethod
    def from_metadata(cls, metadata: Mapping[bytes, bytes]) -> ImageIdentity | None:
        """Read a schema's metadata; None where it says nothing of image vectors."""
        found = {name: metadata.get(f"{_PREFIX}{name}".encode()) for name in cls.__slots__}
        texts = {name: value.decode() for name, value in found.items() if value is not None}
        if len(texts) < len(found):
            return None
        return cls(texts["fingerprint"], texts["model"], texts["revision"], int(texts["dim"]))

    @classmethod
    def from_record(cls, column: Mapping[str, str]) -> ImageIdentity:
        """Read what `to_metadata` wrote into the record of a unit.

        Raises:
            ValueError: it is of something else.
        """
        found = cls.from_metadata({k.encode(): v.encode() for k, v in column.items()})
        if found is None:
            raise ValueError(f"no vectors of images: {dict(column)}")
        return found


def vector_field(dim: int) -> pa.Field:
    """Return the column: fixed_size_list<float32, dim>, nullable."""
    return pa.field(IMAGE_VECTOR, pa.list_(pa.float32(), dim))


def find_image_identity(table: ImagesTable) -> ImageIdentity | None:
    """Return what a version's images were embedded with; None where they were not.

    Raises:
        TableError: there is such a column, made by somebody else.
    """
    if IMAGE_VECTOR not in table.dataset.schema.names:
        return None
    found = ImageIdentity.from_metadata(table.dataset.schema.metadata or {})
    if found is None:
        raise TableError(
            f"{table.location.uri} has a column {IMAGE_VECTOR} that skytext did not make: take it "
            "away, or caption into a new table"
        )
    return found


def image_identity(table: ImagesTable) -> ImageIdentity:
    """Return what a version's images were embedded with.

    Raises:
        TableError: they were not embedded.
    """
    found = find_image_identity(table)
    if found is not None:
        return found
    uri, latest = table.location.uri, ImagesTable.open(table.location)
    if latest.version != table.version and find_image_identity(latest) is not None:
        raise TableError(
            f"version {table.version} of {uri} has no image vectors; the latest has: --version "
            f"{latest.version}"
        )
    raise TableError(f"{uri} has no image vectors: skytext embed-images {uri} --model NAME")


def check_same_model(location: TableLocation, table: ImageIdentity, ours: ImageIdentity) -> None:
    """Refuse to mix the vectors of two models in one column.

    Raises:
        TableError: the column was made with another model, revision or pixels.
    """
    if table.fingerprint != ours.fingerprint:
        at = f" at {table.revision}" if table.revision else ""
        raise TableError(
            f"the images of {location.uri} were embedded with {table.model!r}{at}, this call would "
            f"use {ours.model!r} (or other settings of images.*): name the same model, or throw "
            "its vectors away and embed all images again with --replace"
        )


def ensure_column(table: ImagesTable, ours: ImageIdentity) -> ImagesTable:
    """Return the version that has a column by this model: the given one, or a new one.

    A column by another model goes, with its index. Each step is a commit of its own, and what a
    reader sees between them is a table without image vectors.

    Args:
        table: the latest version.
        ours: of the model.

    Raises:
        CommitConflictError: somebody else committed meanwhile.
        JobError: the store refuses.
    """
    there = find_image_identity(table)
    if there is not None and (there.fingerprint, there.dim) == (ours.fingerprint, ours.dim):
        return table
    dataset = table.dataset
    try:
        if there is not None:
            dataset.drop_columns([IMAGE_VECTOR])
        dataset.update_schema_metadata(ours.to_metadata())
        dataset.add_columns(vector_field(ours.dim))
    except LanceConflict as error:
        raise CommitConflictError(
            f"another run committed to {table.location.uri} meanwhile: let it end, then run the "
            "same command again"
        ) from error
    except OSError as error:
        reason = disk_failure(error, table.location.uri) or error
        raise JobError(f"cannot change the columns of {table.location.uri}: {reason}") from error
    return ImagesTable.open(table.location)


@again
def rows_without_vector(table: ImagesTable, fragment_id: int, fingerprint: str) -> pa.Table:
    """Return where the images of a fragment lie that are done and have no vector by a model.

    Args:
        table: a version.
        fragment_id: of it.
        fingerprint: of the model; vectors by another one count for nothing.
    """
    condition = _missing(table, fingerprint)
    return table.dataset.get_fragment(fragment_id).to_table(columns=LISTED, filter=condition)


@again
def count_without_vector(table: ImagesTable, fingerprint: str) -> dict[int, int]:
    """Return the number of those images by fragment, for the fragments that have some."""
    condition = _missing(table, fingerprint)
    counts = {
        fragment.fragment_id: int(fragment.count_rows(condition))
        for fragment in table.dataset.get_fragments()
    }
    return {fragment_id: number for fragment_id, number in sorted(counts.items()) if number}


def _missing(table: ImagesTable, fingerprint: str) -> str:
    there = find_image_identity(table)
    is_ours = there is not None and there.fingerprint == fingerprint
    return f"{DONE} AND {IMAGE_VECTOR} IS NULL" if is_ours else DONE


@again
def num_with_vector(table: ImagesTable) -> tuple[int, int]:
    """Return how many images are done, and how many of them have a vector."""
    num_ok = int(table.dataset.count_rows(filter=DONE))
    if IMAGE_VECTOR not in table.dataset.schema.names:
        return num_ok, 0
    return num_ok, int(table.dataset.count_rows(filter=EMBEDDED))


def image_report(table: ImagesTable) -> dict[str, Any] | None:
    """Return what ``status --json`` says of the image vectors; None where there are none."""
    found = find_image_identity(table)
    if found is None:
        return None
    num_ok, num_there = num_with_vector(table)
    return {
        "model": found.model,
        "revision": found.revision,
        "dim": found.dim,
        "num_with": num_there,
        "num_without": num_ok - num_there,
    }


@again
def contents_by_fragment(
    table: ImagesTable, image_ids: pa.Array
) -> dict[int, dict[str, str | None]]:
    """Return, for each fragment that holds some of these images, their content hashes by id."""
    found: dict[int, dict[str, str | None]] = {}
    for fragment in table.dataset.get_fragments():
        scanner = fragment.scanner(columns=["image_id", "content_sha256"], filter=DONE)
        here: dict[str, str | None] = {}
        for batch in scanner.to_batches():
            some = batch.filter(pc.is_in(batch.column("image_id"), image_ids))
            pairs = (some.column(name).to_pylist() for name in ("image_id", "content_sha256"))
            here.update(zip(*pairs, strict=True))
        if here:
            found[fragment.fragment_id] = here
    return found
