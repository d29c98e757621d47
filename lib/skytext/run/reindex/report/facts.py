"""The facts about a run for its report."""

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
    """The facts about a run.

    Attributes:
        location: the table.
        config: the settings.
        started_at: when it began, UTC.
        outcome: how it ended.
        problem: the problem in one line; empty without one.
        summary: its result, from `skytext.run.reindex.reindex_run.ReindexSummary.to_json`; empty
            if unknown.
        version_before: the live version when it began; None without one.
        matches: reports of new images for standing queries, with their GeoJSON.
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
        """The base name of its files."""
        return f"{self.started_at:%Y-%m-%dT%H-%M-%S}.{self.started_at.microsecond // 1000:03d}Z"

    @property
    def runs(self) -> Mapping[str, Mapping[str, Any]]:
        """Summaries of the captioning runs, by the reason of their work."""
        found: Mapping[str, Mapping[str, Any]] = self.summary.get("runs", {})
        return found

    @property
    def vectors(self) -> list[Mapping[str, Any]]:
        """Summaries of the runs that embedded images or descriptions."""
        return list(self.summary.get("vectors", ()))
