"""What is known of a run when its report is written."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skytext.config.settings import Config
from skytext.run.reindex.report.page import Outcome
from skytext.table.location import TableLocation
from skytext.table.reported_matches import MatchReport


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What is known of a run.

    Attributes:
        location: the table.
        config: the settings.
        started_at: when it began, UTC.
        outcome: how it ended.
        problem: what is wrong, in one line; empty where nothing is.
        summary: what it did, as `skytext.run.reindex.reindex_run.ReindexSummary.to_json` says it;
            empty where that is not known.
        version_before: the version that was live when it began; None for none.
        matches: reports of new images that match standing queries, with their GeoJSON.
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
        """What its files are called."""
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
