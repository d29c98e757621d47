"""Write staged image vectors into the table's column, all of a group or none.

A commit is an ``Update`` that gives each fragment that it touches a new file for the one column
(``fields_modified``: an index on that column no longer counts these fragments as covered, all other
indexes stay as they are). It names the first fragment like every other commit to the table
(`skytext.table.commits.commit_rows`), so that a run that captions and a run that embeds images
conflict, and the second of two commits from one version fails.

Vectors are matched by image and content: rows that went, or whose image changed since, get none.
What a merge of fragments changed meanwhile is looked up again.
"""

from __future__ import annotations

from collections.abc import Sequence

import lance
import pyarrow as pa
import pyarrow.compute as pc
from lance.commit import CommitConflictError as LanceConflict

from skytext.errors import CommitConflictError, JobError
from skytext.table.commits.commit_rows import rows_changed, with_anchor
from skytext.table.commits.stage_image_vectors import StagedVectors, join_rows
from skytext.table.image_vector_column import contents_by_fragment, ensure_column
from skytext.table.images_dataset import IMAGE_VECTOR, ImagesTable, sql_text
from skytext.table.location import TableLocation
from skytext.table.store_retry import broke_off

_MAINTENANCE_RETRIES = 5


def commit_vectors(location: TableLocation, version: int, units: Sequence[StagedVectors]) -> int:
    """Make the vectors of units of one model visible; return the new version.

    Args:
        location: the table.
        version: the last one that the caller saw; rows that somebody else committed since make
            this a conflict, maintenance does not.
        units: staged by one model.

    Raises:
        CommitConflictError: somebody else committed meanwhile.
        JobError: the store refuses.
    """
    rows = join_rows(units)
    latest = ImagesTable.open(location)
    if latest.version != version and rows_changed(version, latest.dataset):
        raise _conflict(location)
    table = ensure_column(latest, units[0].identity)
    for _ in range(_MAINTENANCE_RETRIES):
        try:
            return _write(table, rows)
        except (LanceConflict, OSError) as error:
            latest = ImagesTable.open(location)
            if _holds(latest, rows):
                # It landed, and only the answer was lost.
                return latest.version
            if not isinstance(error, LanceConflict) and not broke_off(error):
                raise JobError(f"cannot commit to {location.uri}: {error}") from error
            if rows_changed(table.version, latest.dataset):
                raise _conflict(location) from error
            table = latest
    raise _conflict(location)


def _write(table: ImagesTable, rows: pa.Table) -> int:
    """Write the column of the fragments that hold some of the images."""
    dataset, updated, fields = table.dataset, [], []
    for fragment_id, contents in contents_by_fragment(table, _ids(rows)).items():
        here = _of_contents(rows, contents)
        if here.num_rows == 0:
            continue
        fragment = dataset.get_fragment(fragment_id)
        metadata, fields = fragment.update_columns(here, left_on="image_id")
        updated.append(metadata)
    if not updated:
        return table.version
    committed = lance.LanceDataset.commit(
        dataset,
        lance.LanceOperation.Update(
            updated_fragments=with_anchor(dataset.get_fragments(), updated, []),
            fields_modified=fields,
        ),
        read_version=dataset.version,
        max_retries=0,
    )
    return int(committed.version)


def _of_contents(rows: pa.Table, contents: dict[str, str | None]) -> pa.Table:
    """Return the vectors whose image has the content that was embedded."""
    ids, hashes = (rows.column(name).to_pylist() for name in ("image_id", "content_sha256"))
    fits = [
        image_id in contents and contents[image_id] == content
        for image_id, content in zip(ids, hashes, strict=True)
    ]
    return rows.filter(pa.array(fits, pa.bool_())).select(["image_id", IMAGE_VECTOR])


def _holds(table: ImagesTable, rows: pa.Table) -> bool:
    """Return whether the vectors are in the table, judged by the first: a commit is all or none."""
    if IMAGE_VECTOR not in table.dataset.schema.names or rows.num_rows == 0:
        return False
    first = rows.slice(0, 1)
    condition = f"image_id = {sql_text(first.column('image_id')[0].as_py())}"
    found = table.dataset.to_table(columns=[IMAGE_VECTOR], filter=condition)
    return bool(found.column(IMAGE_VECTOR).to_pylist() == first.column(IMAGE_VECTOR).to_pylist())


def _ids(rows: pa.Table) -> pa.Array:
    return pc.unique(rows.column("image_id"))


def _conflict(location: TableLocation) -> CommitConflictError:
    return CommitConflictError(
        f"another run committed to {location.uri} meanwhile; nothing of this group was committed: "
        "let the other run end, then run the same command again"
    )
