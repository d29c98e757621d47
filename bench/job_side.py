"""One run of the whole job. See `bench.throughput`."""

from __future__ import annotations

import json
import sys
import time

from skytext.cli.options import parse_settings
from skytext.config import load_config
from skytext.pipeline import Progress, plan_caption, run_caption


def measure(archive: str, table: str, settings: list[str]) -> dict[str, float]:
    """Return the engine's tokens/s in a whole run, and where its time went."""
    plan = plan_caption([archive], table, load_config(None, parse_settings(settings)))
    first_unit: list[float] = []

    def note_first(_: Progress) -> None:
        if not first_unit:
            first_unit.append(time.monotonic())

    summary = run_caption(plan, on_progress=note_first)
    return {
        "num_images": summary.num_ok,
        "num_failed": summary.num_failed,
        "num_tokens": summary.num_output_tokens,
        "span_s": summary.engine_span_s,
        "idle_s": summary.engine_idle_s,
        "duration_s": summary.duration_s,
        "tokens_per_s": summary.output_tokens_per_s,
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2], sys.argv[3:])))
