"""A log of small numbered objects. Only one of several writers can create a given number."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from skytext.table.location import TableLocation
from skytext.table.store.state_files import StateStore


@dataclass(frozen=True, slots=True)
class NumberedLog:
    """A log in one folder of ``T/state``. Each record contains the whole state.

    Attributes:
        location: the table.
        folder: path of the folder, relative to ``T/state``.
        num_kept: minimum number of records that are kept. The last records are kept.
    """

    location: TableLocation
    folder: str
    num_kept: int

    def newest_first(self) -> Iterator[bytes]:
        """Yield the records, the newest record first.

        Raises:
            JobError: a store request failed.
        """
        state = StateStore(self.location)
        for path in sorted(state.list(self.folder), reverse=True):
            data = state.get(path)
            if data is not None:
                yield data

    def append(self, number: int, record: Mapping[str, Any]) -> bool:
        """Create a record. Return False if another writer has already used this number.

        Args:
            number: the number of the last record plus one.
            record: the record, a JSON object. It must differ from the records of all other writers.

        Raises:
            JobError: a store request failed.
        """
        state = StateStore(self.location)
        if not state.create(self._path(number), json.dumps(record).encode()):
            return False
        if number % self.num_kept == 0:
            oldest = self._path(number - self.num_kept)
            state.delete([path for path in state.list(self.folder) if path < oldest])
        return True

    def _path(self, number: int) -> str:
        return f"{self.folder}/{number:012d}.json"
