"""Measure which images of a table cannot be found by searches yet, and how large the table is."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass

import numpy as np
import obstore

from skytext.table.id_sums import hash_bytes
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import VECTOR_INDEX, num_segments
from skytext.table.indexes.build_indexes import num_unindexed_rows
from skytext.table.location import IMAGES, TableLocation
from skytext.table.schema import DONE
from skytext.table.standing.reported_matches import files_by_fragment
from skytext.table.store.state_files import StateStore, open_store
from skytext.table.store.store_retry import again

_LAST_SUCCESS = "reindex/last_success.json"


@dataclass(frozen=True, slots=True)
class Freshness:
    """Measurements of the images that searches cannot find yet, and of the size of the table.

    Attributes:
        unsearchable_since: the time when the oldest missing image was described. An image is
            missing if it is described in the latest version, but not in the live version. None if
            no image is missing.
        num_uncovered: number of rows of the live version that are not in the vector index of this
            version; 0 if there is no vector index.
        num_segments: number of segments of the vector index in the live version.
        num_versions: number of versions of the table.
        num_bytes: size in bytes of all files of the images data set, including old versions.
        last_success: end time of the last successful reindex run; None if no reindex run has
            succeeded.
    """

    unsearchable_since: dt.datetime | None
    num_uncovered: int
    num_segments: int
    num_versions: int
    num_bytes: int
    last_success: dt.datetime | None


def measure_freshness(location: TableLocation) -> Freshness:
    """Compute the `Freshness` of a table.

    Raises:
        TableError: the table does not exist.
        JobError: a store request failed.
    """
    latest = ImagesTable.open(location)
    number = latest.live_version()
    live = latest if number is None else ImagesTable.open(location, number)
    return Freshness(
        unsearchable_since=_unsearchable_since(live, latest),
        num_uncovered=num_unindexed_rows(live) or 0,
        num_segments=num_segments(live.dataset, VECTOR_INDEX),
        num_versions=len(again(latest.dataset.versions)()),
        num_bytes=_num_bytes(location),
        last_success=last_success(location),
    )


def _unsearchable_since(live: ImagesTable, latest: ImagesTable) -> dt.datetime | None:
    """Return the time when the oldest missing image was described.

    An image is missing if it is described in ``latest``, but not in ``live``.
    """
    known = set().union(*files_by_fragment(live).values())
    fragments = [one for one, files in files_by_fragment(latest).items() if not files <= known]
    if not fragments:
        return None
    rows = latest.dataset.scanner(
        columns=["image_id", "created_at"],
        filter=DONE,
        fragments=[latest.dataset.get_fragment(one) for one in fragments],
    ).to_table()
    images = live.dataset.scanner(columns=["image_id"], filter=DONE).to_batches()
    served = [hash_bytes(batch.column("image_id")) for batch in images]
    found = hash_bytes(rows.column("image_id").combine_chunks())
    is_new = ~np.isin(found, np.concatenate([np.empty(0, found.dtype), *served]))
    moments = rows.column("created_at").to_numpy()[is_new]
    if not len(moments):
        return None
    oldest: dt.datetime = moments.min().astype("datetime64[us]").item()
    return oldest.replace(tzinfo=dt.UTC)


@again
def _num_bytes(location: TableLocation) -> int:
    store = open_store(location, f"{IMAGES}.lance")
    return sum(entry["size"] for page in obstore.list(store) for entry in page)


def note_success(location: TableLocation) -> None:
    """Store the current time as the time of the last successful reindex run.

    Raises:
        JobError: a store request failed.
    """
    record = {"at": dt.datetime.now(dt.UTC).isoformat()}
    StateStore(location).put(_LAST_SUCCESS, json.dumps(record).encode())


def last_success(location: TableLocation) -> dt.datetime | None:
    """Return the end time of the last successful reindex run; None if no reindex run has succeeded.

    Raises:
        JobError: a store request failed.
    """
    data = StateStore(location).get(_LAST_SUCCESS)
    return None if data is None else dt.datetime.fromisoformat(json.loads(data)["at"])
