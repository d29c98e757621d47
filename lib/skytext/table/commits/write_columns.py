"""Put staged vectors into the fragments that hold their images: a new file of one column each.

An index on that column no longer counts these fragments as covered (``fields_modified``). All other
indexes, row addresses and copies of rows stay valid.

Vectors are matched by image and content: rows that went, or whose image changed since, get none.
"""

from __future__ import annotations

import lance
import pyarrow as pa
import pyarrow.compute as pc

from skytext.table.commits.fence import with_anchor
from skytext.table.images_dataset import ImagesTable, sql_text
from skytext.table.missing_vectors import contents_by_fragment

_KEYS = ["image_id", "content_sha256"]


def vectors_update(table: ImagesTable, vectors: pa.Table) -> lance.LanceOperation.Update | None:
    """Return the operation that puts vectors into a version; None where no row takes one.

    Args:
        table: the version; it has the column.
        vectors: as `skytext.table.commits.stage_vectors.read_vectors` returns them.
    """
    dataset, updated, fields = table.dataset, [], []
    ids = pc.unique(vectors.column("image_id"))
    for fragment_id, contents in contents_by_fragment(table, ids).items():
        here = _of_contents(vectors, contents)
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


def _of_contents(vectors: pa.Table, contents: dict[str, str | None]) -> pa.Table:
    """Return the vectors whose image has the content that was embedded."""
    pairs = zip(*(vectors.column(name).to_pylist() for name in _KEYS), strict=True)
    # Of a row without a hash nothing says that its image has changed.
    fits = [
        image_id in contents and contents[image_id] in (content, None)
        for image_id, content in pairs
    ]
    return vectors.filter(pa.array(fits, pa.bool_())).drop_columns(["content_sha256"])


def holds_vectors(table: ImagesTable, vectors: pa.Table) -> bool:
    """Return whether the vectors are in a version, judged by the first: a commit is all or none."""
    (column,) = set(vectors.column_names) - set(_KEYS)
    if column not in table.dataset.schema.names or vectors.num_rows == 0:
        return False
    first = vectors.slice(0, 1)
    condition = f"image_id = {sql_text(first.column('image_id')[0].as_py())}"
    found = table.dataset.to_table(columns=[column], filter=condition)
    return bool(found.column(column).to_pylist() == first.column(column).to_pylist())
