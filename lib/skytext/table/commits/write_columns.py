"""Add staged vectors to existing rows. Each changed fragment gets one new column file.

The index on the vector column then does not cover the changed fragments any more
(``fields_modified``). All other indexes, the row addresses and the row copies stay valid.

A vector is added to a row if the image id and the embedded content match. A vector is skipped if
the row was removed, or if the image or the description has changed. If the row already has a
vector, this vector is kept.
"""

from __future__ import annotations

import lance
import pyarrow as pa
import pyarrow.compute as pc

from skytext.table.commits.fence import with_anchor
from skytext.table.images_dataset import ImagesTable, sql_text
from skytext.table.rows.missing_vectors import missing_by_fragment
from skytext.table.vector_columns import VectorColumn


def vectors_update(
    table: ImagesTable, column: VectorColumn, vectors: pa.Table
) -> lance.LanceOperation.Update | None:
    """Return the operation that adds vectors to a version.

    The result is None if no row needs one of the vectors.

    Args:
        table: the table, opened in the version that gets the vectors. It must have the column.
        column: column of the vectors.
        vectors: result of `skytext.table.commits.stage_vectors.read_vectors`.
    """
    dataset, updated, fields = table.dataset, [], []
    ids = pc.unique(vectors.column("image_id"))
    for fragment_id, keys in missing_by_fragment(table, ids, column).items():
        here = _of_keys(vectors, keys)
        if here.num_rows == 0:
            continue
        fragment = dataset.get_fragment(fragment_id)
        metadata, fields = fragment.update_columns(here, left_on="image_id")
        updated.append(metadata)
    if not updated:
        return None
    return lance.LanceOperation.Update(
        updated_fragments=with_anchor(dataset.get_fragments(), updated, []),
        fields_modified=fields,
    )


def _of_keys(vectors: pa.Table, keys: dict[str, str | None]) -> pa.Table:
    """Return the vectors that were computed from the current content of the rows.

    ``keys`` maps the id of each image to the key of its current content.
    """
    pairs = zip(*(vectors.column(name).to_pylist() for name in ("image_id", "key")), strict=True)
    # If a row has no key, a change of the image cannot be detected, so the vector is accepted.
    fits = [image_id in keys and keys[image_id] in (key, None) for image_id, key in pairs]
    return vectors.filter(pa.array(fits, pa.bool_())).drop_columns(["key"])


def holds_vectors(table: ImagesTable, column: VectorColumn, vectors: pa.Table) -> bool:
    """Return whether a version has the vectors.

    Only the first vector is checked, because a commit adds all vectors or none.
    """
    there = table.find_column(column)
    if there is None or vectors.num_rows == 0:
        return False
    first = vectors.slice(0, 1)
    condition = f"image_id = {sql_text(first.column('image_id')[0].as_py())}"
    found = table.dataset.to_table(columns=[there.name], filter=condition)
    return bool(found.column(0).to_pylist() == first.column(column.name).to_pylist())
