"""Commit staged units. Only this module adds rows to the ``images`` data set.

Every commit is based on the last version that this writer has read. Every commit is fenced
(`skytext.table.commits.fence`). If two writers commit at the same time, one of them gets
`CommitConflictError`, and no duplicate rows occur. Merges of fragments and index builds are
maintenance. If only maintenance has committed a newer version, the writer repeats its commit on
that version.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import lance
import pyarrow as pa
import tenacity
from lance.commit import CommitConflictError as LanceConflict

from skytext.errors import CommitConflictError, JobError, TableError
from skytext.table.commits.change_columns import ensure_column
from skytext.table.commits.fence import (
    commit,
    holds_units,
    raise_fence,
    rows_changed,
    with_anchor,
)
from skytext.table.commits.stage_rows import StagedUnit, fragments_of, has_vectors_for
from skytext.table.commits.stage_vectors import read_vectors
from skytext.table.commits.write_columns import holds_vectors, vectors_update
from skytext.table.images_dataset import ImagesTable, sql_text
from skytext.table.location import IMAGES, TableLocation
from skytext.table.schema import images_schema
from skytext.table.store.store_retry import broke_off
from skytext.table.vector_columns import FORMAT_VERSION, VectorColumn, VectorKind, to_metadata

# An index build makes only a few commits, so a few retries are enough.
_MAINTENANCE_RETRIES = 5
# A commit uses about three times as much memory as the size of its vectors.
_VECTOR_BYTES_A_COMMIT = 2**30


class Committer:
    """Commits groups of staged units to one table. Each group is committed atomically.

    Args:
        location: the table.
        column: column of the caption vectors in the rows. If the table is new, the first commit
            takes ``dim`` from its units.
        version: the version from which the caller planned its work; None if the table does not
            exist. If another `Committer` has added rows after this version, every commit conflicts.
            If another tool has appended rows without a fence, there is no conflict.
    """

    def __init__(self, location: TableLocation, column: VectorColumn, version: int | None) -> None:
        self._location = location
        self._column = column
        self._dataset: lance.LanceDataset | None = None
        if version is not None:
            table = ImagesTable.open(location, version)
            check_writable(table, column)
            self._dataset = table.dataset

    @property
    def version(self) -> int | None:
        """The number of the version after the last commit; None if there is no data set yet."""
        return None if self._dataset is None else int(self._dataset.version)

    def commit(self, units: Sequence[StagedUnit]) -> int:
        """Commit all units, and return the new version. If there is a conflict, commit no unit.

        Args:
            units: the staged units. All units must contain rows, or all units must contain vectors
                of the same column.

        Raises:
            CommitConflictError: another writer committed after the last commit of this writer.
            JobError: the number of rows in a record differs from the number in its fragments, or a
                store request failed.
        """
        if units and units[0].column:
            self._dataset = self._write_vectors(units)
        elif self._dataset is None:
            self._dataset = self._create_with_retries(units)
        else:
            self._dataset = self._extend_past_maintenance(self._dataset, units)
        return int(self._dataset.version)

    def remove_rows(self, condition: str) -> int:
        """Delete the rows that match a Lance filter, and return the new version.

        Raises:
            CommitConflictError: another writer committed after the last commit of this writer.
        """
        if self._dataset is None:
            raise JobError(f"there is no table at {self._location.uri}")
        try:
            self._dataset = self._extend(self._dataset, (), condition)
        except LanceConflict as error:
            raise self._conflict() from error
        return int(self._dataset.version)

    def raise_fence(self) -> int | None:
        """Make every commit fail that was prepared before this call, and return the new version.

        If the data set does not exist, no fence is needed. If two writers create the data set, one
        of the two writers fails.
        """
        if self._dataset is not None:
            self._dataset = self._past_maintenance(self._dataset, raise_fence, lambda _: False)
        return self.version

    @tenacity.retry(
        # After a broken connection, `_create` raises a `JobError` only if the data set still does
        # not exist. So nothing was committed.
        retry=tenacity.retry_if_exception(lambda error: broke_off(error.__cause__ or error)),
        wait=tenacity.wait_random_exponential(multiplier=0.2, max=10),
        stop=tenacity.stop_after_attempt(_MAINTENANCE_RETRIES),
        reraise=True,
    )
    def _create_with_retries(self, units: Sequence[StagedUnit]) -> lance.LanceDataset:
        return self._create(units)

    def _create(self, units: Sequence[StagedUnit]) -> lance.LanceDataset:
        fragments = _checked_fragments(units)
        dim = max(unit.dim for unit in units)
        column = dataclasses.replace(self._column, dim=dim)
        # The metadata of the columns are part of the schema, so the first version already contains
        # them. With read_version 0, Lance fails if another writer has created the data set.
        try:
            created = lance.LanceDataset.commit(
                self._location.dataset_uri(IMAGES),
                lance.LanceOperation.Overwrite(
                    images_schema(column).with_metadata(to_metadata([column])), fragments
                ),
                read_version=0,
                max_retries=0,
                storage_options=self._location.short_lived_options(IMAGES),
            )
            # The data set stays open during the run. So open it through a client that renews the
            # access keys.
            return ImagesTable.open(self._location, created.version).dataset
        except (LanceConflict, OSError) as error:
            # Lance 14 raises several types of errors for this conflict. So do not test the type,
            # but test whether a table exists.
            table = ImagesTable.find(self._location)
            if table is None:
                raise JobError(f"cannot create {self._location.uri}: {error}") from error
            if _holds_all(table.dataset, units):
                return table.dataset
            raise self._conflict() from error

    def _extend_past_maintenance(
        self, dataset: lance.LanceDataset, units: Sequence[StagedUnit]
    ) -> lance.LanceDataset:
        return self._past_maintenance(
            dataset,
            lambda latest: self._extend(latest, units),
            lambda latest: _holds_all(latest.dataset, units),
        )

    def _write_vectors(self, units: Sequence[StagedUnit]) -> lance.LanceDataset:
        latest = ImagesTable.open(self._location)
        if self._dataset is None or rows_changed(self._dataset.version, latest.dataset):
            raise self._conflict()
        column = VectorColumn.from_json(units[0].column)
        dataset = ensure_column(latest, column).dataset
        for some in _slices(units, column):
            vectors = read_vectors(self._location, some)
            dataset = self._past_maintenance(
                dataset,
                partial(self._put, column, vectors),
                partial(holds_vectors, column=column, vectors=vectors),
            )
        return dataset

    def _put(
        self, column: VectorColumn, vectors: pa.Table, dataset: lance.LanceDataset
    ) -> lance.LanceDataset:
        update = vectors_update(ImagesTable(self._location, dataset), column, vectors)
        return dataset if update is None else commit(dataset, update)

    def _past_maintenance(
        self,
        dataset: lance.LanceDataset,
        write: Callable[[lance.LanceDataset], lance.LanceDataset],
        has_landed: Callable[[ImagesTable], bool],
    ) -> lance.LanceDataset:
        """Commit on top of a version.

        If maintenance has made a newer version, commit on top of the newer version.

        Args:
            dataset: the version.
            write: function that commits on top of the given version, and returns the new version.
            has_landed: function that gets a version and returns whether this version contains the
                commit.
        """
        for _ in range(_MAINTENANCE_RETRIES):
            try:
                return write(dataset)
            except (LanceConflict, OSError) as error:
                table = ImagesTable.open(self._location)
                latest = table.dataset
                if has_landed(table):
                    # The commit succeeded, but its response was lost.
                    return latest
                if not isinstance(error, LanceConflict) and not broke_off(error):
                    raise JobError(f"cannot commit to {self._location.uri}: {error}") from error
                if rows_changed(dataset.version, latest):
                    raise self._conflict() from error
                dataset = latest
        raise self._conflict()

    def _conflict(self) -> CommitConflictError:
        return CommitConflictError(
            f"another run committed to {self._location.uri} at the same time, so the last rows or "
            "vectors of this run were not committed: wait until the other run ends, then run the "
            "same command again"
        )

    def _extend(
        self, dataset: lance.LanceDataset, units: Sequence[StagedUnit], outdated: str = ""
    ) -> lance.LanceDataset:
        present = dataset.get_fragments()
        table = ImagesTable(self._location, dataset)
        for unit in units:
            if not has_vectors_for(unit, table):
                raise JobError(
                    f"unit {unit.unit_id} has no vectors for the column {table.text_column.name}: "
                    "run the same command again"
                )
        fragments = _checked_fragments(units)
        if present:
            updated, removed = _without_rows(dataset, outdated or _outdated(units))
            operation = lance.LanceOperation.Update(
                updated_fragments=with_anchor(present, updated, removed),
                new_fragments=fragments,
                removed_fragment_ids=removed,
                fields_modified=[],
            )
        else:
            # An empty data set has no fragment that an update can name. An overwrite conflicts with
            # every other commit.
            operation = lance.LanceOperation.Overwrite(dataset.schema, fragments)
        return commit(dataset, operation)


def _slices(units: Sequence[StagedUnit], column: VectorColumn) -> Iterator[list[StagedUnit]]:
    """Yield groups of units. Each group is so small that a commit of its vectors fits in memory."""
    # A description usually has five variants.
    row_bytes = 4 * column.dim * (5 if column.kind == VectorKind.TEXT else 1)
    some: list[StagedUnit] = []
    num_rows = 0
    for unit in units:
        if some and (num_rows + unit.num_rows) * row_bytes > _VECTOR_BYTES_A_COMMIT:
            yield some
            some, num_rows = [], 0
        some.append(unit)
        num_rows += unit.num_rows
    yield some


def _checked_fragments(units: Sequence[StagedUnit]) -> list[lance.FragmentMetadata]:
    """Return all fragments of the units.

    Raises:
        JobError: the number of rows in a record differs from the number in its fragments.
    """
    fragments: list[lance.FragmentMetadata] = []
    for unit in units:
        staged = fragments_of(unit)
        if sum(fragment.physical_rows for fragment in staged) != unit.num_rows:
            raise JobError(
                f"unit {unit.unit_id}: its record and its fragments have different numbers of rows"
            )
        fragments.extend(staged)
    return fragments


def _outdated(units: Sequence[StagedUnit]) -> str:
    """Return a Lance filter for the rows that a commit of the units removes.

    The filter is empty if the commit removes no rows.
    """
    image_ids = [sql_text(image_id) for unit in units for image_id in unit.outdated_ids]
    return f"image_id IN ({', '.join(image_ids)})" if image_ids else ""


def _without_rows(
    dataset: lance.LanceDataset, condition: str
) -> tuple[list[lance.FragmentMetadata], list[int]]:
    """Delete the rows that match a Lance filter, without a commit.

    The function writes deletion files. The rows are deleted only when a commit refers to these
    files.

    Returns:
        The changed fragments, and the ids of the fragments that have no rows after the deletion.
    """
    if not condition:
        return [], []
    addresses = dataset.to_table(columns=[], filter=condition, with_row_address=True)
    touched = {address >> 32 for address in addresses.column("_rowaddr").to_pylist()}
    updated, removed = [], []
    for fragment_id in sorted(touched):
        rest = dataset.get_fragment(fragment_id).delete(condition)
        if rest is None:
            removed.append(fragment_id)
        else:
            updated.append(rest)
    return updated, removed


def _holds_all(dataset: lance.LanceDataset, units: Sequence[StagedUnit]) -> bool:
    """Return whether the data set has the rows of all these units.

    This writer commits all units of a group or no unit. So if the data set has the rows of only
    some units, another writer committed these rows.
    """
    return holds_units(dataset, {unit.unit_id for unit in units if unit.num_rows})


def check_writable(table: ImagesTable, ours: VectorColumn | None = None) -> None:
    """Check that this release can write rows to the table.

    The table must have the current format. The model of the new vectors must be the table's model.

    Args:
        table: the table's latest version.
        ours: column of the caption vectors in the new rows; None if the caller writes no rows.

    Raises:
        TableError: the table has another format or another model. The message contains a command
            that solves the problem.
    """
    uri, theirs = table.location.uri, table.text_column
    if table.format_version != FORMAT_VERSION:
        raise TableError(
            f"{uri} has table format {table.format_version}, but this skytext writes format "
            f"{FORMAT_VERSION}. To migrate the table without calling a model, run: "
            f"skytext migrate {shlex.quote(uri)}"
        )
    if ours is not None and not ours.fits(theirs):
        raise TableError(
            f"{uri} was embedded with {theirs.described}, but this command would use "
            f"{ours.model!r}. Use the same model (--embedding-model {theirs.model}), use another "
            "table, or embed the descriptions again with this command: skytext caption … "
            "--stale vectors"
        )
