"""Which versions services use, so that a clean-up leaves them.

A service writes one small object, ``T/state/held/HOLDER.json``, again and again. An object that was
not written for an hour is of a service that has ended. Only the store's clock is used.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Collection

from skytext.table.location import TableLocation
from skytext.table.state_files import StateStore

HOLD_EVERY_S = 600.0
"""How often a service says which versions it uses."""
_FOLDER = "held"
_PROBE = "clock.json"
_LASTS = dt.timedelta(hours=1)


def hold_versions(location: TableLocation, holder: str, versions: Collection[int]) -> None:
    """Keep versions from being removed for an hour.

    Args:
        location: the table.
        holder: names who uses them; its next call replaces this one.
        versions: all that it uses.

    Raises:
        JobError: the store refuses.
    """
    StateStore(location).put(f"{_FOLDER}/{holder}.json", json.dumps(sorted(versions)).encode())


def held_versions(location: TableLocation) -> set[int]:
    """Return the versions that services use, and forget holders that have ended.

    Raises:
        JobError: the store refuses.
    """
    state = StateStore(location)
    paths = [path for path in state.list(_FOLDER) if not path.endswith(_PROBE)]
    if not paths:
        return set()
    state.put(f"{_FOLDER}/{_PROBE}", b"{}")
    now = state.modified_at(f"{_FOLDER}/{_PROBE}")
    ended = [path for path in paths if now - state.modified_at(path) > _LASTS]
    state.delete(ended)
    found = (state.get(path) for path in set(paths) - set(ended))
    return {version for data in found if data is not None for version in json.loads(data)}
