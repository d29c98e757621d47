"""The sections with figures in the report of a run.

The figures are the changes, the failures, the checks, the time and the cost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from skytext.run.reindex.report.facts import RunFacts
from skytext.run.reindex.report.page import Grid, Section
from skytext.table.images_dataset import ImagesTable
from skytext.table.queries.run_rows import RunRows
from skytext.table.versions.canary import Canary

_STEPS = {
    "new": "describe new and changed",
    "failed": "try failed again",
    "stale": "describe again",
}
_WHY = {
    "new": ("new", "the table had no row for these images"),
    "changed": ("changed", "the bytes of these images have changed"),
    "again": ("described again", "the model, the prompt or the sampling has changed"),
    "recovered": ("recovered", "these images failed in an earlier run"),
    "failed": ("failed", "see the section Failures"),
}


def changes(facts: RunFacts, rows: RunRows | None) -> Section:
    """Return a section with the number of changed images for each reason."""
    counted = [] if rows is None else [(name, len(ids)) for name, ids in rows._asdict().items()]
    lines = [[*_WHY[name], f"{number:,}"] for name, number in counted if number]
    adopted = sum(run["num_adopted"] for run in facts.runs.values())
    if adopted:
        lines.append(
            ["committed", "an interrupted run had staged the rows of these images", f"{adopted:,}"]
        )
    for one in facts.vectors:
        what = "images" if one["kind"] == "image" else "descriptions"
        why = f"these {what} had no vector of the model {one['model']}"
        lines.append(["embedded", why, f"{one['num_embedded']:,}"])
    if facts.summary.get("num_withdrawn"):
        number = f"{facts.summary['num_withdrawn']:,}"
        lines.append(["withdrawn", "the archive no longer has these images", number])
    texts = [] if lines else ["Nothing has changed."]
    if facts.summary.get("broken_listing"):
        texts.append(facts.summary["broken_listing"])
    if facts.summary.get("is_partial"):
        texts.append("The budget was spent before all work was done. The next run continues.")
    return Section("What changed", texts, Grid(["images", "reason", "number"], lines, 2))


def failures(facts: RunFacts, table: ImagesTable | None) -> Section:
    """Return a section that lists, for each reason, the failures of this run and of the table."""
    in_run: Counter[str] = Counter()
    for run in (*facts.runs.values(), *facts.vectors):
        in_run.update(run["failures"])
    groups = [] if table is None else table.failure_samples(1)
    in_table = {f"{group['stage']}/{group['reason']}": group for group in groups}
    lines = []
    for reason in sorted({*in_run, *in_table}, key=lambda name: (-in_run[name], name)):
        group = in_table.get(reason, {"rows": 0, "samples": []})
        example = "".join(f"{one['uri']}: {one['detail']}" for one in group["samples"])
        lines.append([reason, example, f"{in_run[reason]:,}", f"{group['rows']:,}"])
    unread = [
        f"The shard {shard} was not read to its end: {why}"
        for run in facts.runs.values()
        for shard, why in run["unread"].items()
    ]
    grid = Grid(["reason", "example", "this run", "in the table"], lines, 2)
    return Section("Failures", list(dict.fromkeys(unread)), grid)


def checks(facts: RunFacts) -> Section:
    """Return a section with the results of the checks that a version must pass to be promoted."""
    lines = [
        ["passed" if one["passed"] else "FAILED", one["name"], one["wanted"], f"{one['found']:g}"]
        for one in facts.summary.get("gate", ())
    ]
    canary = facts.summary.get("canary")
    if canary is not None:
        described = Canary.from_row(canary).described
        texts = [
            f"{described[0].upper()}{described[1:]}.",
            "The services compare the canary with the live version.",
        ]
    elif facts.summary.get("was_promoted"):
        texts = [f"Version {facts.summary['live_version']} was promoted."]
    else:
        live = facts.summary.get("live_version")
        texts = [f"No version was promoted. The live version is {live}."] if live else []
    return Section("Gate", texts, Grid(["", "check", "required", "measured"], lines, 3))


def comparisons(facts: RunFacts) -> Iterator[Section]:
    """Yield sections that compare the search results of the new version and the live version."""
    for title, name, why_not in (
        ("Golden queries", "comparison", "not_compared"),
        ("Last queries of services", "shadow", "no_shadow"),
    ):
        found, said = facts.summary.get(name), facts.summary.get(why_not)
        title = f"{title}, live and new version"
        yield Section(title, [said] if said else []) if found is None else _compared(title, found)


def _compared(title: str, found: Mapping[str, Any]) -> Section:
    texts = [
        f"{found['num_queries']:,} queries were run on the live version {found['live_version']} "
        f"and on the new version {found['new_version']}. On average, "
        f"{found['overlap_at_10']:.1%} of the first ten hits are the same in both versions."
    ]
    if found["found_live"] is not None:
        texts.append(
            f"The live version finds an expected image for {found['found_live']:.1%} of the "
            f"queries. The new version finds one for {found['found_new']:.1%} of the queries."
        )
    if found["num_refused"]:
        texts.append(f"Both versions rejected {found['num_refused']:,} other queries.")
    lines = [
        [one["query"], f"{one['overlap_at_10']:.0%}", _lines(one["lost"]), _lines(one["gained"])]
        for one in found["changes"]
    ]
    return Section(title, texts, Grid(["query", "in common", "only live", "only new"], lines, 4))


def _lines(uris: Sequence[str]) -> str:
    return "; ".join(uris)


def costs(facts: RunFacts) -> Section:
    """Return a section with the time, the tokens, the engines' idle time and the cost per step."""
    head = ["step", "images", "time", "input tokens", "output tokens", "tokens/s", "engines idle"]
    price = facts.config.job.cost_per_engine_hour
    head += [] if price is None else ["cost"]
    lines = [_embedding(one, len(head)) for one in facts.vectors]
    lines += [_describing(name, run, price) for name, run in facts.runs.items()]
    every = (*facts.vectors, *facts.runs.values())
    rest = facts.summary.get("duration_s", 0.0) - sum(one["duration_s"] for one in every)
    if lines and rest > 0:
        name = "list, withdraw, index, check, clean"
        lines.append([name, "", duration(rest), *[""] * (len(head) - 3)])
    return Section("Time and cost by step", (), Grid(head, lines))


def _embedding(one: Mapping[str, Any], width: int) -> list[str]:
    name = f"embed with {one['model']}"
    cells = [name, f"{one['num_embedded']:,}", duration(one["duration_s"])]
    return [*cells, *[""] * (width - len(cells))]


def _describing(name: str, run: Mapping[str, Any], price: float | None) -> list[str]:
    span, has_run = run["engine_span_s"], run["engine_span_s"] > 0
    cells = [
        _STEPS.get(name, name),
        f"{run['num_captioned']:,}",
        duration(run["duration_s"]),
        f"{run['num_prompt_tokens']:,}",
        f"{run['num_output_tokens']:,}",
        f"{run['output_tokens_per_s']:,.0f}" if has_run else "",
        f"{run['engine_idle_s'] / span:.1%}" if has_run else "",
    ]
    return cells if price is None else [*cells, f"{span / 3600 * price:,.2f}"]


def upkeep(facts: RunFacts) -> Section:
    """Return a section about the indexes and about the old versions that were deleted."""
    return Section("Indexes and clean-up", list(_upkeep(facts.summary)))


def _upkeep(summary: Mapping[str, Any]) -> Iterator[str]:
    index, cleaned = summary.get("index"), summary.get("cleaned")
    if index and index["vector"]:
        yield (
            f"Vector index {index['vector']}: {index['num_rows']:,} rows, "
            f"{index['num_partitions']} partitions, recall@10 {index['recall_at_10']:.3f}."
        )
    elif index:
        yield f"{index['num_rows']:,} rows. There is no vector index, so searches are exact."
    if cleaned:
        yield (
            f"{cleaned['num_versions']:,} old versions were deleted "
            f"({cleaned['num_bytes'] / 1e6:,.1f} MB). {cleaned['num_kept']:,} versions were kept."
        )


def duration(seconds: float) -> str:
    """Return a duration as a string in seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
