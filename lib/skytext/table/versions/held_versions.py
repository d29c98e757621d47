"""Protect the table versions that running services use. A clean-up keeps these versions.

Each service rewrites one small object, ``T/state/held/HOLDER.json``, at a fixed interval. If an
object is older than one hour by the store's clock, the service that wrote the object has ended.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Collection

from skytext.table.location import TableLocation
from skytext.table.store.state_files import StateStore

HOLD_EVERY_S = 600.0
"""Number of seconds after which a service writes its object again."""
_FOLDER = "held"
_LASTS = dt.timedelta(hours=1)


def hold_versions(location: TableLocation, holder: str, versions: Collection[int]) -> None:
    """Protect versions from removal for one hour.

    Args:
        location: the table.
        holder: name of the service. The next call with the same name replaces the versions.
        versions: all versions that the service uses.

    Raises:
        JobError: a store request failed.
    """
    StateStore(location).put(f"{_FOLDER}/{holder}.json", json.dumps(sorted(versions)).encode())


def held_versions(location: TableLocation, *, forget: bool = True) -> set[int]:
    """Return the versions that services use.

    Args:
        location: the table.
        forget: true to also delete the objects of services that have ended.

    Raises:
        JobError: a store request failed.
    """
    state = StateStore(location)
    modified = state.modified_times(_FOLDER)
    if not modified:
        return set()
    now = state.now()
    ended = [path for path, at in modified.items() if now - at > _LASTS]
    if forget:
        state.delete(ended)
    found = (state.get(path) for path in modified.keys() - ended)
    return {version for data in found if data is not None for version in json.loads(data)}
