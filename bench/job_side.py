"""Run the complete job once, and measure its CPU time (for `bench.throughput`)."""

from __future__ import annotations

import json
import sys
from typing import Any

import psutil

from skytext.cli.options import parse_settings
from skytext.config.settings import load_config
from skytext.run.caption_run import run_caption
from skytext.run.plans.caption_plan import plan_caption
from skytext.run.progress import Progress


def cpu_seconds() -> dict[str, float]:
    """Return the CPU time of this process and its descendants in seconds, for each program name."""
    found: dict[str, float] = {}
    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        try:
            name = "driver" if process == me else process.cmdline()[0].rpartition("/")[2]
            times = process.cpu_times()
        except (psutil.Error, IndexError):
            continue
        found[name] = found.get(name, 0.0) + times.user + times.system
    return found


def measure(archive: str, table: str, settings: list[str]) -> dict[str, Any]:
    """Run the complete job, and measure the engine and the CPU.

    Return the tokens/s of the engine, and the CPU time that the job used after its first unit was
    finished.
    """
    plan = plan_caption([archive], table, load_config(None, parse_settings(settings)))
    samples: list[dict[str, float]] = []

    def note(_: Progress) -> None:
        # This function is first called when the first unit is finished. The first sample therefore
        # contains the CPU time for the start of the job. Keep the first sample and the last sample.
        samples[1:] = [cpu_seconds()]

    summary = run_caption(plan, on_progress=note)
    spent = {name: value - samples[0].get(name, 0.0) for name, value in samples[-1].items()}
    return {
        "num_images": summary.num_ok,
        "num_failed": summary.num_failed,
        "num_tokens": summary.num_output_tokens,
        "span_s": summary.engine_span_s,
        "idle_s": summary.engine_idle_s,
        "duration_s": summary.duration_s,
        "tokens_per_s": summary.output_tokens_per_s,
        "cpu_s_behind_first_unit": {k: round(v, 1) for k, v in spent.items() if v >= 0.1},
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2], sys.argv[3:])))
