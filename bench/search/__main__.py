"""Measure searches in sections. Run: ``python -m bench.search --only skytext``

The results of all sections are stored in one JSON file, so the sections can be measured separately.
All results in the file are printed as Markdown. Tables, indexes and ground truth remain in the work
folder, and later runs use them again. With ``--anew``, the indexes of the measured sections are
built again.
"""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.search import embedding, report, sections
from bench.search.sections import Bench

app = typer.Typer()

SECTIONS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "table": sections.table,
    "skytext": sections.large("skytext"),
    "copied": sections.of_skytext("skytext-copied"),
    "equal": sections.of_skytext("skytext-copied-equal"),
    "lance": sections.of_skytext("lance"),
    "filtered": sections.filtered,
    "filters": sections.filters,
    "exact": sections.large("exact", num_queries=20),
    "faiss": sections.large("faiss-ivfpq"),
    "lancedb": sections.large("lancedb"),
    "hnsw": sections.hnsw,
    "growth": sections.growth,
    "embedding": embedding.measure,
}


@app.command()
def main(
    only: Annotated[
        list[str] | None, typer.Option(help=f"One of {', '.join(SECTIONS)}. You can give several.")
    ] = None,
    work: Annotated[
        Path,
        typer.Option(help="Folder for tables and indexes. It needs at least 10 kB for each image."),
    ] = Path("bench/out/search"),
    num_images: Annotated[
        int, typer.Option(help="Number of images in the large table.")
    ] = 1_000_000,
    num_queries: Annotated[
        int, typer.Option(help="Number of queries in each measurement.")
    ] = 1_000,
    build_limit_s: Annotated[
        float, typer.Option(help="Time limit of a build in seconds.")
    ] = 1_800.0,
    anew: Annotated[bool, typer.Option(help="Build existing indexes again.")] = False,
    span_s: Annotated[
        float, typer.Option(help="Seconds for which eight clients send queries.")
    ] = 10.0,
    repeats: Annotated[
        int,
        typer.Option(
            min=1,
            help="Number of rounds. Each round measures every section once. An index is built "
            "only in the first round. The results are the medians of the rounds.",
        ),
    ] = 1,
    output: Annotated[
        Path | None,
        typer.Option(help="JSON file for the results. Results of other sections are kept."),
    ] = None,
) -> None:
    """Measure sections, and print the results of all sections in the JSON file as Markdown."""
    names = only or list(SECTIONS)
    unknown = sorted(set(names) - set(SECTIONS))
    if unknown:
        known = ", ".join(SECTIONS)
        raise typer.BadParameter(f"{', '.join(unknown)} is unknown. The sections are {known}")
    work.mkdir(parents=True, exist_ok=True)
    bench = Bench(
        work,
        num_images=num_images,
        num_queries=num_queries,
        build_limit_s=build_limit_s,
        anew=anew,
        span_s=span_s,
    )
    output = output or work / "search.json"
    results = json.loads(output.read_text(encoding="utf-8")) if output.exists() else {}
    failed = []
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    # One round measures all sections, so that a change in the speed of the machine affects all
    # sections.
    for number in range(repeats):
        for name in names:
            if name in failed:
                continue
            typer.echo(f"== {name}, round {number + 1} of {repeats}", err=True)
            try:
                found = SECTIONS[name](bench if number == 0 else replace(bench, anew=False))
            except subprocess.CalledProcessError as error:
                # The error is already printed on stderr. Continue, because the sections are
                # independent.
                failed.append(name)
                typer.echo(f"{name}: {error}", err=True)
                continue
            rounds[name].append(found)
            results[name] = medians(rounds[name])
            output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    typer.echo(report.markdown(results))
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def medians(found: Sequence[Any]) -> Any:
    """Combine the results of several rounds. Each number becomes the median of the rounds.

    If a value is not a number, the value of the first round is returned.
    """
    first = found[0]
    if isinstance(first, dict):
        return {key: medians([one[key] for one in found if key in one]) for key in first}
    numbers = [one for one in found if isinstance(one, int | float) and not isinstance(one, bool)]
    if numbers:
        # The median of an even number of integers would be a float.
        return numbers[0] if len(set(numbers)) == 1 else statistics.median(numbers)
    return first


if __name__ == "__main__":
    app()
