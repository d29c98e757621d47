"""Write the rows of one unit as uncommitted Lance fragments, and a record of these fragments.

Workers stage units. Only the driver commits them (`skytext.table.commits.commit_rows`). The rows of
a unit are visible only after its commit. The write function of lance-ray is not used, because a
retry of that function can commit only part of the rows (lance-ray#5290).

The record ``state/staged/{unit_id}.json`` is created after the fragments are written, and only if
no such record exists. If the worker of a task died, Ray repeats the task, so a unit may be staged
twice. The record of the first attempt is then valid, and the files of the second attempt are
deleted. If records remain after a run, the next run settles these records
(`skytext.table.commits.adoption`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field

import obstore
import pyarrow as pa
from lance.fragment import FragmentMetadata, write_fragments
from obstore.exceptions import BaseError

from skytext.errors import JobError
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import IMAGES, TableLocation
from skytext.table.queries.hit_column import hit_texts
from skytext.table.schema import FILE_VERSION, HIT, PENDING_VECTORS, images_schema
from skytext.table.store.state_files import StateStore, open_store
from skytext.table.store.store_retry import again
from skytext.table.vector_columns import VectorColumn, is_vector_name

STAGED = "staged"
_DATA = f"{IMAGES}.lance/data"
_THREADS = 16


@dataclass(frozen=True, slots=True)
class StagedUnit:
    """The record of one staged unit. A commit needs only this record.

    A unit contains whole rows, or vectors for existing rows. ``fragments`` is set if the unit
    contains rows. ``column`` is set if the unit contains vectors.

    Attributes:
        unit_id: id of the unit, unique across all runs. It is written to every row.
        num_rows: number of rows in the fragments, or number of vectors. A commit of rows checks
            this number.
        dim: length of a vector.
        fragments: the metadata of each fragment in Lance's format, as JSON strings.
        image_ids: ids of the images in the rows.
        caption_fingerprint: caption fingerprint of the run that staged the unit.
        embedding_fingerprint: embedding fingerprint of the run that staged the unit.
        replaces: maps the id of each image that has an existing row to the unit id of this row. The
            commit removes the existing row and adds the new row.
        removes: ids of images. The commit removes the rows of these images and adds no new rows for
            them.
        column: the column of the vectors, as JSON string (`VectorColumn.to_json`). It is empty if
            the unit contains rows.
        files: paths of the files that contain the vectors, relative to the data folder of the data
            set.
        columns: names of the vector columns in the fragments. It is empty if an old release wrote
            the record.
    """

    unit_id: str
    num_rows: int
    dim: int
    fragments: tuple[str, ...] = ()
    image_ids: tuple[str, ...] = ()
    caption_fingerprint: str = ""
    embedding_fingerprint: str = ""
    replaces: Mapping[str, str] = field(default_factory=dict)
    removes: tuple[str, ...] = ()
    column: str = ""
    files: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    @property
    def outdated_ids(self) -> list[str]:
        """Ids of the images whose existing rows the commit removes."""
        return [*self.replaces, *self.removes]

    def to_json(self) -> bytes:
        """Return the record as bytes."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> StagedUnit:
        """Parse the bytes that `to_json` returns."""
        fields = json.loads(data)
        for name in {"fragments", "image_ids", "removes", "files", "columns"} & fields.keys():
            fields[name] = tuple(fields[name])
        return cls(**fields)


def stage_rows(
    location: TableLocation,
    unit_id: str,
    rows: pa.Table,
    column: VectorColumn,
    *,
    caption_fingerprint: str = "",
    replaces: Mapping[str, str] | None = None,
    removes: Sequence[str] = (),
) -> StagedUnit:
    """Write rows as uncommitted fragments, and then write the record.

    The schema of ``rows`` must be `images_schema`. The record contains the other arguments, see
    `StagedUnit`.

    Returns:
        The record of the unit. If an earlier attempt wrote a record, its record is returned.

    Raises:
        JobError: the number of written rows differs from the number of rows in ``rows``, or a store
            request failed.
    """
    fragments = _write(location, rows) if rows.num_rows else []
    written = sum(fragment.physical_rows for fragment in fragments)
    if written != rows.num_rows:
        raise JobError(
            f"unit {unit_id}: {rows.num_rows} rows should be written, but {written} rows were "
            "written"
        )
    unit = StagedUnit(
        unit_id=unit_id,
        num_rows=written,
        dim=column.dim,
        fragments=tuple(json.dumps(fragment.to_json()) for fragment in fragments),
        image_ids=tuple(rows.column("image_id").to_pylist()),
        caption_fingerprint=caption_fingerprint,
        embedding_fingerprint=column.fingerprint,
        replaces=dict(replaces or {}),
        removes=tuple(removes),
        columns=tuple(name for name in rows.column_names if is_vector_name(name)),
    )
    return keep_record(location, unit)


def keep_record(location: TableLocation, unit: StagedUnit) -> StagedUnit:
    """Create the record of a unit whose files are written, and return the record.

    If an earlier attempt already created a record, the earlier record is returned, and the files of
    ``unit`` are deleted.

    Raises:
        JobError: a store request failed.
    """
    state, path = StateStore(location), record_path(unit.unit_id)
    if state.create(path, unit.to_json()):
        return unit
    first = state.get(path)
    if first is None:
        raise JobError(f"unit {unit.unit_id}: its record was deleted while it was staged again")
    delete_files(location, data_files(unit))
    return StagedUnit.from_json(first)


@again
def _write(location: TableLocation, rows: pa.Table) -> list[FragmentMetadata]:
    found: list[FragmentMetadata] = write_fragments(
        rows,
        location.dataset_uri(IMAGES),
        schema=rows.schema,
        mode="append",
        data_storage_version=FILE_VERSION,
        **location.lance_options(IMAGES),
    )
    return found


def record_path(unit_id: str) -> str:
    """Return the path of a unit's record, relative to the table's state folder."""
    return f"{STAGED}/{unit_id}.json"


def staged_unit_ids(location: TableLocation) -> list[str]:
    """Return the ids of all units that have a record, sorted."""
    paths = StateStore(location).list(STAGED)
    return sorted(path.removeprefix(f"{STAGED}/").removesuffix(".json") for path in paths)


def read_records(location: TableLocation, unit_ids: Sequence[str]) -> list[StagedUnit]:
    """Return the records of units, in the order of ``unit_ids``.

    Raises:
        JobError: a record is missing, or a store request failed.
    """
    units, missing = find_records(location, unit_ids)
    if missing:
        raise JobError(f"unit {missing[0]} has no record in {location.uri}/state")
    return units


def find_records(
    location: TableLocation, unit_ids: Sequence[str]
) -> tuple[list[StagedUnit], list[str]]:
    """Return the existing records in the order of ``unit_ids``, and the ids without a record.

    Raises:
        JobError: a store request failed.
    """
    state = StateStore(location)
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(lambda unit_id: state.get(record_path(unit_id)), unit_ids))
    units = [StagedUnit.from_json(data) for data in found if data is not None]
    return units, [name for name, data in zip(unit_ids, found, strict=True) if data is None]


def forget_records(location: TableLocation, units: Sequence[StagedUnit]) -> None:
    """Delete the records of settled units, and the files that contain the vectors of these units.

    The files are not needed any more, because a commit copies the vectors.
    """
    StateStore(location).delete([record_path(unit.unit_id) for unit in units])
    delete_files(location, [path for unit in units for path in unit.files])


def data_files(unit: StagedUnit) -> list[str]:
    """Return the paths of the unit's files, relative to the data folder of the data set."""
    rows = [file.path for fragment in fragments_of(unit) for file in fragment.files]
    return [*rows, *unit.files]


def has_all_files(location: TableLocation, unit: StagedUnit) -> bool:
    """Return whether all files of a staged unit exist.

    Raises:
        JobError: a store request failed.
    """
    paths = data_files(unit)
    if not paths:
        return True
    store = open_store(location, _DATA)
    try:
        for path in paths:
            obstore.head(store, path)
    except FileNotFoundError:
        return False
    except BaseError as error:
        raise JobError(f"cannot look for the files of unit {unit.unit_id}: {error}") from error
    return True


def delete_files(location: TableLocation, paths: Sequence[str]) -> None:
    """Delete files that no version refers to. A missing file is not an error."""
    if not paths:
        return
    store = open_store(location, _DATA)
    for path in paths:
        try:
            obstore.delete(store, path)
        except FileNotFoundError:
            continue


def has_vectors_for(unit: StagedUnit, table: ImagesTable) -> bool:
    """Return whether the vectors in the unit's rows belong to the vector columns of a version.

    The result is False in two cases. In the first case, the unit was staged before the active
    column was added. The files of the unit then have no field ids of this column, so the rows would
    have no vectors. In the second case, the unit has vectors for a column that was dropped. The
    version may then use the same field ids for a different column.
    """
    ids = {
        field.name(): {leaf.id() for leaf in field.children()}
        for field in table.dataset.lance_schema.fields()
    }
    wanted = {table.text_column.name, *unit.columns}
    return wanted <= ids.keys() and all(
        any(ids[name] <= set(file.fields) for file in fragment.files)
        for fragment in fragments_of(unit)
        for name in wanted
    )


def fragments_of(unit: StagedUnit) -> list[FragmentMetadata]:
    """Return the metadata of a staged unit's fragments."""
    return [FragmentMetadata.from_json(text) for text in unit.fragments]


def to_images_table(
    rows: pa.Table, vectors: VectorColumn, pending: VectorColumn | None = None
) -> pa.Table:
    """Convert the columns to the order and types of the table, and add the column ``hit``.

    In ``rows``, the column ``metadata`` contains strings. It is converted to Arrow JSON. Two
    columns are renamed. The column ``vectors`` gets the name of the column that the argument
    ``vectors`` describes. The column ``pending_vectors`` gets the name of the column that the
    argument ``pending`` describes.
    """
    schema, renamed = images_schema(vectors), {vectors.name: "vectors"}
    if pending is not None:
        schema, renamed[pending.name] = schema.append(pending.field), PENDING_VECTORS
    columns = []
    for field_ in schema:
        if field_.name == HIT:
            columns.append(pa.chunked_array([hit_texts(rows)]))
            continue
        column = rows.column(renamed.get(field_.name, field_.name))
        if field_.name == "metadata":
            chunks = [pa.ExtensionArray.from_storage(field_.type, c) for c in column.chunks]
            column = pa.chunked_array(chunks, type=field_.type)
        else:
            column = column.cast(field_.type)
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)
