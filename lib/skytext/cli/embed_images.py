"""``skytext embed-images``: add image vectors to a table of described images."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from skytext.cli.options import (
    AsJson,
    ConfigFile,
    RayAddress,
    Settings,
    Table,
    bands_of,
    make_config,
)

if TYPE_CHECKING:
    from skytext.run.plans.vector_plan import VectorPlan
    from skytext.run.progress import Progress
    from skytext.run.vector_run import VectorSummary


def embed_images(
    table: Table,
    model: Annotated[
        str | None,
        typer.Option(
            help="Hub name or folder of a CLIP-like model, e.g. "
            "sentence-transformers/clip-ViT-B-32; default: the model of the table's image vectors."
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of the model.")
    ] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="If the table has image vectors that another model made, embed all images again.",
        ),
    ] = False,
    num_actors: Annotated[
        int | None, typer.Option(help="Number of copies of the model; default: 1.")
    ] = None,
    gpus_per_actor: Annotated[
        float | None, typer.Option(help="Number of GPUs for one copy of the model; default: 0.")
    ] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    ray_address: RayAddress = None,
    as_json: AsJson = False,
) -> None:
    """Embed the images of a table with a CLIP-like model.

    The command processes described images that have no image vector yet. It reads each image from
    its shard, and writes the vector to a separate column of the table. Run the command after every
    captioning run.
    """
    options = {
        "image_embed.model": model,
        "image_embed.revision": revision,
        "image_embed.num_actors": num_actors,
        "image_embed.num_gpus_per_actor": gpus_per_actor,
    }
    resolved = make_config(config, settings, options, bands_of(table))
    from skytext.cli.output import note, print_json
    from skytext.run.plans.vector_plan import plan_images
    from skytext.run.vector_run import check_store_gave_all, run_vectors

    plan = plan_images(table, resolved, replace=replace)
    note(f"{plan.location.uri}  (image embedding model {plan.model.name})")
    with _progress() as on_progress:
        summary = run_vectors(plan, ray_address=ray_address, on_progress=on_progress)
    if as_json:
        print_json(summary.to_json())
    else:
        _show(plan, summary)
    check_store_gave_all(summary.failures, summary.failure_samples)


@contextmanager
def _progress() -> Iterator[Callable[[Progress], None]]:
    """Show a progress bar if stderr is a terminal."""
    from rich import progress as bars

    from skytext.cli.output import notes

    bar = bars.Progress(
        *bars.Progress.get_default_columns()[:-1],
        bars.MofNCompleteColumn(),
        bars.TimeRemainingColumn(),
        console=notes,
        transient=True,
        disable=not notes.is_terminal,
    )
    with bar:
        task = bar.add_task("starting", total=None)

        def update(progress: Progress) -> None:
            bar.update(
                task,
                description="stopping" if progress.is_stopping else "embedding images",
                total=progress.num_to_do,
                completed=progress.num_done,
            )

        yield update


def _show(plan: VectorPlan, summary: VectorSummary) -> None:
    from skytext.cli.output import answers, plural

    uri = plan.location.uri
    lines = [
        f"{summary.num_with_vector:,} of {plural(summary.num_ok, 'described image')} have a "
        f"vector by {summary.model} (table version {summary.table_version})",
        f"this run: {plural(summary.num_embedded, 'image')} embedded, {summary.num_failed:,} "
        f"failed, {summary.num_skipped:,} already had a vector; {summary.duration_s:.1f} s, "
        f"{summary.images_per_s:.2f} images/s",
    ]
    for key, count in sorted(summary.failures.items()):
        lines.append(f"  failed: {count:,} × {key}, e.g. {summary.failure_samples[key]}")
    if summary.num_adopted:
        images = plural(summary.num_adopted, "image")
        lines.append(f"committed {images} that an interrupted run had embedded")
    if summary.num_embedded or summary.num_adopted:
        table = shlex.quote(uri)
        lines.append(f'next: skytext search {table} "a river beside a town" --mode image')
    for line in lines:
        answers.print(line, markup=False, soft_wrap=True)
