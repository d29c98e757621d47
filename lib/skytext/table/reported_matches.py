"""Reports of the standing queries of a table: those already made, and those not sent yet.

The log ``T/state/watch/log`` has small numbered objects. A number is created only if it does not
exist. The last record is the whole state: the compared rows, the images that each query has
reported, and the reports that were not sent yet. So each report is made once, even if a run is
killed: it stays in the log until it is sent. The matches of a report are stored beside the log as
GeoJSON.
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
from skytext.table.numbered_log import NumberedLog
from skytext.table.standing_queries import FOLDER, KEY
from skytext.table.state_files import StateStore

_MATCHES = f"{FOLDER}/matches"

Keys = NDArray[np.bytes_]


@dataclass(frozen=True, slots=True)
class MatchReport:
    """New images that match standing queries, found by one run.

    Attributes:
        number: 1, 2, …; unique within the table.
        table_version: the version in which they were found.
        at: time of the report.
        counts: for each query its id, text and number of matches.
        path: path of the matches as GeoJSON, relative to ``T/state``, until the report is sent.
        address: address of the GeoJSON file for users; empty before it is written.
    """

    number: int
    table_version: int
    at: dt.datetime
    counts: tuple[dict[str, Any], ...]
    path: str
    address: str = ""

    @property
    def num_matches(self) -> int:
        """Number of matches; an image that matches several queries counts for each of them."""
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
        """Read what `to_json` wrote."""
        at = dt.datetime.fromisoformat(row["at"])
        return cls(**{**row, "at": at, "counts": tuple(row["counts"])})


@dataclass(frozen=True, slots=True)
class Compared:
    """The state of the standing queries after a comparison: one record of the log.

    Attributes:
        number: number of the record.
        table_version: the version compared last, or None.
        column: name of the compared vector column.
        files: data files of all fragments of this version.
        reported: for each query id, the keys of the images already reported. A query without an
            entry was not compared yet.
        waiting: reports that were not sent yet, oldest first.
        num_reports: total number of reports.
    """

    number: int = 0
    table_version: int | None = None
    column: str = ""
    files: frozenset[str] = frozenset()
    reported: Mapping[str, Keys] = field(default_factory=dict)
    waiting: tuple[MatchReport, ...] = ()
    num_reports: int = 0

    def changed_fragments(self, table: ImagesTable) -> list[int]:
        """Return the fragments of a version that are new or changed since the last comparison."""
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
            # Distinguishes this record from others with the same number.
            "token": uuid.uuid4().hex,
        }

    @classmethod
    def from_json(cls, data: bytes) -> Compared:
        """Read what `to_json` wrote."""
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
    """Return the data files of each fragment; a rewritten row is in a new file."""
    return {
        fragment.fragment_id: {file.path for file in fragment.data_files()}
        for fragment in table.dataset.get_fragments()
    }


@dataclass(frozen=True, slots=True)
class MatchLog:
    """The log of one table.

    Attributes:
        location: the table.
    """

    location: TableLocation

    def last(self) -> Compared:
        """Return the last record, or an empty one.

        Raises:
            JobError: a store request failed.
        """
        data = next(self._log.newest_first(), None)
        return Compared() if data is None else Compared.from_json(data)

    def append(self, before: Compared, after: Compared) -> Compared:
        """Write the record that follows ``before``, and return it.

        Raises:
            CommitConflictError: another run wrote it first.
            JobError: a store request failed.
        """
        after = replace(after, number=before.number + 1)
        if not self._log.append(after.number, after.to_json()):
            raise CommitConflictError(
                f"another run is comparing the standing queries of {self.location.uri}: run the "
                "same command again when it has ended"
            )
        return after

    def write_matches(self, number: int, geojson: bytes) -> str:
        """Store the matches of a report that is not in the log yet, and return their path."""
        path = f"{_MATCHES}/{number:012d}-{uuid.uuid4().hex[:8]}.geojson"
        self._state.put(path, geojson)
        return path

    def matches(self, report: MatchReport) -> bytes:
        """Return the matches of a waiting report as GeoJSON.

        Raises:
            JobError: a store request failed, or the matches no longer exist.
        """
        data = self._state.get(report.path)
        if data is None:
            raise CommitConflictError(
                f"{report.path} no longer exists in the state of {self.location.uri}: another run "
                "has sent the report"
            )
        return data

    def mark_sent(self, report: MatchReport) -> None:
        """Remove a report from the waiting ones, and delete its matches.

        Raises: as `append`.
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
