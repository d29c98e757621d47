"""Commit staged units: the only writer of the ``images`` data set.

A plain Lance append cannot be fenced: two appends from the same stale version both land. An
``Update`` that names an existing fragment, unchanged, beside the new ones does conflict with
any other commit of that kind, leaves indexes valid and does not conflict with an index build. So
every commit but the one that creates the data set is such an update, from the version that this
writer saw last: a second writer gets `CommitConflictError`, never a double row. Only maintenance
(merged fragments, indexes) in between lets it go on from the newer version.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import lance
from lance.commit import CommitConflictError as LanceConflict

from skytext.errors import CommitConflictError, JobError, TableError
from skytext.schema import images_schema
from skytext.table.images import ImagesTable, TableIdentity
from skytext.table.location import IMAGES, TableLocation
from skytext.table.staging import StagedUnit, fragments_of

_ROW_OPERATIONS = (
    lance.LanceOperation.Append,
    lance.LanceOperation.Delete,
    lance.LanceOperation.Merge,
    lance.LanceOperation.Overwrite,
    lance.LanceOperation.Project,
    lance.LanceOperation.Restore,
    lance.LanceOperation.Update,
)
# An index build is a handful of commits, and they do not follow one another for ever.
_MAINTENANCE_RETRIES = 5


class Committer:
    """Commits groups of staged units to one table, each group atomically.

    Args:
        location: the table.
        identity: what the rows are made with, the vector length left open (``dim`` 0) until the
            first unit tells it.
        version: the version that the caller decided by what there is to do; None where there was
            no table. Rows that another `Committer` added since make every commit a conflict; those
            of a plain append by another tool do not.
    """

    def __init__(
        self, location: TableLocation, identity: TableIdentity, version: int | None
    ) -> None:
        self._location = location
        self._identity = identity
        self._dataset: lance.LanceDataset | None = None
        if version is not None:
            table = ImagesTable.open(location, version)
            check_identity(location, table.identity, identity)
            self._dataset = table.dataset

    @property
    def version(self) -> int | None:
        """The version after the last commit, or None while there is no data set."""
        return None if self._dataset is None else int(self._dataset.version)

    def commit(self, units: Sequence[StagedUnit]) -> int:
        """Make the units' rows visible, all of them or none; return the new version.

        Raises:
            CommitConflictError: somebody else committed since this writer last looked.
            JobError: a record and its fragments disagree.
        """
        fragments = []
        for unit in units:
            staged = fragments_of(unit)
            if sum(fragment.physical_rows for fragment in staged) != unit.num_rows:
                raise JobError(f"unit {unit.unit_id}: its record and its fragments disagree")
            fragments.extend(staged)
        if self._dataset is None:
            self._dataset = self._create(fragments, units[0].dim)
        else:
            self._dataset = self._extend_past_maintenance(self._dataset, fragments)
        return int(self._dataset.version)

    def _create(self, fragments: list[lance.FragmentMetadata], dim: int) -> lance.LanceDataset:
        identity = dataclasses.replace(self._identity, dim=dim)
        # The identity is part of the schema, so that it is there from the first version on.
        # read_version 0 makes Lance fail where another writer created the data set meanwhile.
        try:
            return lance.LanceDataset.commit(
                self._location.dataset_uri(IMAGES),
                lance.LanceOperation.Overwrite(
                    images_schema(dim).with_metadata(identity.to_metadata()), fragments
                ),
                read_version=0,
                max_retries=0,
                storage_options=self._location.storage_options(),
            )
        except (LanceConflict, OSError) as error:
            # Lance 14 says it in several ways; that the table is there now is what tells.
            if ImagesTable.find(self._location) is None:
                raise JobError(f"cannot create {self._location.uri}: {error}") from error
            raise self._conflict() from error

    def _extend_past_maintenance(
        self, dataset: lance.LanceDataset, fragments: list[lance.FragmentMetadata]
    ) -> lance.LanceDataset:
        for _ in range(_MAINTENANCE_RETRIES):
            try:
                return self._extend(dataset, fragments)
            except LanceConflict as error:
                latest = ImagesTable.open(self._location).dataset
                if _rows_changed(dataset.version, latest):
                    raise self._conflict() from error
                dataset = latest
        raise self._conflict()

    def _conflict(self) -> CommitConflictError:
        return CommitConflictError(
            f"another run committed to {self._location.uri} meanwhile; nothing of this group was "
            "committed: let the other run end, then run the same command again"
        )

    def _extend(
        self, dataset: lance.LanceDataset, fragments: list[lance.FragmentMetadata]
    ) -> lance.LanceDataset:
        anchor = dataset.get_fragments()[0].metadata
        operation = lance.LanceOperation.Update(
            updated_fragments=[anchor],
            new_fragments=fragments,
            removed_fragment_ids=[],
            fields_modified=[],
        )
        return lance.LanceDataset.commit(
            dataset.uri,
            operation,
            read_version=dataset.version,
            max_retries=0,
            storage_options=self._location.storage_options(),
        )


def _rows_changed(since: int, latest: lance.LanceDataset) -> bool:
    """Return whether any commit after version ``since`` did more than maintenance."""
    for version in range(since + 1, latest.version + 1):
        transaction = latest.read_transaction(version)
        # A transaction that clean-up has removed cannot be vouched for.
        if transaction is None or isinstance(transaction.operation, _ROW_OPERATIONS):
            return True
    return False


def check_identity(location: TableLocation, table: TableIdentity, ours: TableIdentity) -> None:
    """Refuse to mix embeddings of two models in one table.

    Raises:
        TableError: the table was embedded with another model, revision or text layout.
    """
    if table.embedding_fingerprint != ours.embedding_fingerprint:
        revision = f" at {table.embedding_revision}" if table.embedding_revision else ""
        raise TableError(
            f"{location.uri} was embedded with {table.embedding_model!r}{revision}, this call "
            f"would use {ours.embedding_model!r}: name the same model (--embedding-model "
            f"{table.embedding_model}), or another table"
        )
