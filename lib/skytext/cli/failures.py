"""``skytext failures`` lists failed images. ``skytext retry-failed`` tries failed images again."""

from __future__ import annotations

import shlex
from typing import Annotated, Any

import typer

from skytext.cli.caption import VerifyAll, run_and_show
from skytext.cli.options import (
    AsJson,
    ConfigFile,
    RayAddress,
    Settings,
    Table,
    make_config,
)

Samples = Annotated[
    int, typer.Option("--samples", min=0, max=1000, help="Number of sample images per reason.")
]


def failures(table: Table, samples: Samples = 3, as_json: AsJson = False) -> None:
    """Count the failed images for each stage and reason, and show sample images."""
    from skytext.cli.output import answers, one_line, plural, print_json
    from skytext.table.images_dataset import ImagesTable
    from skytext.table.location import TableLocation

    images = ImagesTable.open(TableLocation.parse(table))
    groups = images.failure_samples(samples)
    if as_json:
        print_json({"failures": groups})
        return
    lines = [f"{plural(sum(group['rows'] for group in groups), 'failed row')}"]
    for group in groups:
        lines.append(f"{group['rows']:,} × {group['stage']}/{group['reason']}")
        for sample in group["samples"]:
            times = plural(sample["attempts"], "attempt")
            lines.append(f"    {one_line(sample['uri'])}  ({times}): {sample['detail']}")
    if groups:
        lines.append(f"next: skytext retry-failed {shlex.quote(table)}")
    for line in lines:
        answers.print(line, markup=False, soft_wrap=True)


def retry_failed(
    table: Table,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="Folders, globs, .tar shards or s3:// addresses; default: the sources of earlier "
            "runs.",
            metavar="SOURCE…",
        ),
    ] = None,
    max_attempts: Annotated[
        int | None,
        typer.Option(
            min=1, help="Skip images that have already failed this number of times; default: 3."
        ),
    ] = None,
    max_failure_rate: Annotated[
        float | None,
        typer.Option(
            help="Maximum share of failed images. If more images fail, the run stops; default: 0.5."
        ),
    ] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    ray_address: RayAddress = None,
    verify_all: VerifyAll = False,
    as_json: AsJson = False,
) -> None:
    """Try the failed images again, with the settings of the last run.

    Other images are not processed. If an image is described successfully, its row is replaced, and
    the new row has the status `ok`.
    """
    options: dict[str, Any] = {
        "job.max_attempts": max_attempts,
        "job.max_failure_rate": max_failure_rate,
    }
    from skytext.table.location import TableLocation
    from skytext.table.runs_dataset import caption_settings

    last = caption_settings(TableLocation.parse(table))
    resolved = make_config(config, settings, options, base=last)
    from skytext.run.plans.caption_plan import plan_retry

    run_and_show(plan_retry(sources or [], table, resolved), ray_address, as_json, verify_all)
