"""The log of the reports about new images that match the standing queries of a table.

The log ``T/state/watch/log`` contains small numbered objects (records). A run can create a record
only if no record with the same number exists. The last record contains the complete state. The
state consists of the compared rows, the reported images of each query, and the unsent reports. So
each report is made only once, even if a run is killed. A report stays in the log until it is sent.
The matches of a report are stored as GeoJSON next to the log.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytext.errors import CommitConflictError
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.standing.standing_queries import FOLDER, KEY
from skytext.table.store.numbered_log import NumberedLog
from skytext.table.store.state_files import StateStore

_MATCHES = f"{FOLDER}/matches"

Keys = NDArray[np.bytes_]


@dataclass(frozen=True, slots=True)
class MatchReport:
    """A report about the new images that match standing queries. One run makes one report.

    Attributes:
        number: number of the report, starting at 1. It is unique within the table.
        table_version: the table version in which the images were found.
        at: time of the report.
        counts: one dict for each query, with the id, the text and the number of matches of the
            query.
        path: path of the GeoJSON object with the matches, relative to ``T/state``. The object is
            deleted when the report is sent.
        address: address of the GeoJSON file for users; empty if this file is not written yet.
    """

    number: int
    table_version: int
    at: dt.datetime
    counts: tuple[dict[str, Any], ...]
    path: str
    address: str = ""

    @property
    def num_matches(self) -> int:
        """Number of matches. An image that matches several queries is counted once per query."""
        return sum(one["num_matches"] for one in self.counts)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return {
            "number": self.number,
            "table_version": self.table_version,
            "at": self.at.isoformat(),
            "counts": list(self.counts),
            "path": self.path,
            "address": self.address,
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> MatchReport:
        """Parse the JSON object that `to_json` returns."""
        at = dt.datetime.fromisoformat(row["at"])
        return cls(**{**row, "at": at, "counts": tuple(row["counts"])})


@dataclass(frozen=True, slots=True)
class Compared:
    """A record of the log. It contains the state of the standing queries after a comparison.

    Attributes:
        number: number of the record.
        table_version: the last table version that was compared; None if no version was compared
            yet.
        column: name of the vector column that was used in the comparison.
        files: paths of the data files of all fragments of ``table_version``.
        reported: maps each query id to the keys of the images that were already reported. If a
            query id is missing, the query has not been compared yet.
        waiting: the reports that have not been sent, oldest first.
        num_reports: number of all reports that were made for the table, including sent reports.
    """

    number: int = 0
    table_version: int | None = None
    column: str = ""
    files: frozenset[str] = frozenset()
    reported: Mapping[str, Keys] = field(default_factory=dict)
    waiting: tuple[MatchReport, ...] = ()
    num_reports: int = 0

    def changed_fragments(self, table: ImagesTable) -> list[int]:
        """Return the ids of the fragments that were added or changed after the last comparison."""
        by_fragment = files_by_fragment(table)
        if table.text_column.name != self.column:
            return list(by_fragment)
        return [one for one, files in by_fragment.items() if not self.files.issuperset(files)]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return {
            "number": self.number,
            "table_version": self.table_version,
            "column": self.column,
            "files": sorted(self.files),
            "reported": {
                query_id: base64.b64encode(keys.tobytes()).decode()
                for query_id, keys in self.reported.items()
            },
            "waiting": [report.to_json() for report in self.waiting],
            "num_reports": self.num_reports,
            # If two writers create a record with the same number, the token makes their records
            # different.
            "token": uuid.uuid4().hex,
        }

    @classmethod
    def from_json(cls, data: bytes) -> Compared:
        """Parse the bytes of a record. They contain the JSON object that `to_json` returns."""
        row = json.loads(data)
        return cls(
            number=row["number"],
            table_version=row["table_version"],
            column=row["column"],
            files=frozenset(row["files"]),
            reported={
                query_id: np.frombuffer(base64.b64decode(keys), KEY)
                for query_id, keys in row["reported"].items()
            },
            waiting=tuple(map(MatchReport.from_json, row["waiting"])),
            num_reports=row["num_reports"],
        )


def files_by_fragment(table: ImagesTable) -> dict[int, set[str]]:
    """Return the paths of the data files of each fragment, by fragment id.

    If a row is rewritten, the new data of the row are stored in a new file.
    """
    return {
        fragment.fragment_id: {file.path for file in fragment.data_files()}
        for fragment in table.dataset.get_fragments()
    }


@dataclass(frozen=True, slots=True)
class MatchLog:
    """The log of the reports of one table.

    Attributes:
        location: the table.
    """

    location: TableLocation

    def last(self) -> Compared:
        """Return the last record, or an empty record if the log is empty.

        Raises:
            JobError: a store request failed.
        """
        data = next(self._log.newest_first(), None)
        return Compared() if data is None else Compared.from_json(data)

    def append(self, before: Compared, after: Compared) -> Compared:
        """Write the record that follows ``before``, and return it.

        Raises:
            CommitConflictError: another run wrote the next record first.
            JobError: a store request failed.
        """
        after = replace(after, number=before.number + 1)
        if not self._log.append(after.number, after.to_json()):
            raise CommitConflictError(
                f"another run is comparing the standing queries of {self.location.uri}: wait until "
                "the other run ends, then run the same command again"
            )
        return after

    def write_matches(self, number: int, geojson: bytes) -> str:
        """Store the matches of a report. Call this before the report is added to the log.

        Returns:
            The path of the matches, relative to ``T/state``.
        """
        path = f"{_MATCHES}/{number:012d}-{uuid.uuid4().hex[:8]}.geojson"
        self._state.put(path, geojson)
        return path

    def matches(self, report: MatchReport) -> bytes:
        """Return the matches of an unsent report, as GeoJSON.

        Raises:
            CommitConflictError: the matches do not exist any more, because another run has sent the
                report.
            JobError: a store request failed.
        """
        data = self._state.get(report.path)
        if data is None:
            raise CommitConflictError(
                f"{report.path} no longer exists in {self.location.uri}/state, because another run "
                "has sent the report: run the same command again"
            )
        return data

    def mark_sent(self, report: MatchReport) -> None:
        """Remove a report from the unsent reports, and delete the matches of the report.

        Raises: the same errors as `append`.
        """
        last = self.last()
        left = tuple(one for one in last.waiting if one.number != report.number)
        if left != last.waiting:
            self.append(last, replace(last, waiting=left))
        self._state.delete([report.path])

    @property
    def _state(self) -> StateStore:
        return StateStore(self.location)

    @property
    def _log(self) -> NumberedLog:
        return NumberedLog(self.location, f"{FOLDER}/log", num_kept=1)
