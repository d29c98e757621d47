"""The facts about a run that its report shows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skytext.config.settings import Config
from skytext.run.reindex.report.page import Outcome
from skytext.table.location import TableLocation
from skytext.table.standing.reported_matches import MatchReport


@dataclass(frozen=True, slots=True)
class RunFacts:
    """The facts about a run that its report shows.

    Attributes:
        location: the table.
        config: the settings.
        started_at: time at which the run started, UTC.
        outcome: outcome of the run.
        problem: error message in one line; empty if the run had no error.
        summary: result of the run, from `skytext.run.reindex.reindex_run.ReindexSummary.to_json`;
            empty if the result is unknown.
        version_before: the version that was live when the run started; None if no version was live.
        matches: pairs of a match report and its GeoJSON file. A match report lists new images that
            match standing queries.
    """

    location: TableLocation
    config: Config
    started_at: dt.datetime
    outcome: Outcome
    problem: str
    summary: Mapping[str, Any]
    version_before: int | None
    matches: tuple[tuple[MatchReport, bytes], ...] = ()

    @property
    def name(self) -> str:
        """The base name of the report's files. It contains the start time of the run."""
        return f"{self.started_at:%Y-%m-%dT%H-%M-%S}.{self.started_at.microsecond // 1000:03d}Z"

    @property
    def runs(self) -> Mapping[str, Mapping[str, Any]]:
        """The summary of each captioning run. The key is the reason for the run, such as ``new``.

        A re-indexing contains up to three captioning runs.
        """
        found: Mapping[str, Mapping[str, Any]] = self.summary.get("runs", {})
        return found

    @property
    def vectors(self) -> list[Mapping[str, Any]]:
        """The summary of each run that embedded images or descriptions."""
        return list(self.summary.get("vectors", ()))
