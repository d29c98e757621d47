"""Measure mean recall on RSITMD and RSICD, as in the main table of the paper (arXiv 2512.10596).

    python -m bench.paper --model llava-hf/llava-1.5-7b-hf --output paper \
        --rsitmd RSITMD/images RSITMD/dataset_RSITMD.json \
        --rsicd RSICD/images RSICD/dataset_rsicd.json

The first path of a benchmark is the folder of its images. The second path is the file of its
annotations. Only images of the selected split are described. All other options are passed to
`skytext caption`, for example `--num-engines 4`. To continue an interrupted run, run the same
command again.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from skytext.cli import run
from skytext.errors import CallError, SkytextError
from skytext.evaluation.annotations import read_annotations

Benchmark = tuple[Path, Path]


def main(
    context: typer.Context,
    model: Annotated[str, typer.Option(help="A vision-language model that vLLM supports.")],
    output: Annotated[Path, typer.Option(help="Folder for the tables and the results.")],
    rsitmd: Annotated[
        Benchmark | None,
        typer.Option(
            help="Folder of the images, and file of the annotations.", metavar="FOLDER FILE"
        ),
    ] = None,
    rsicd: Annotated[
        Benchmark | None,
        typer.Option(
            help="Folder of the images, and file of the annotations.", metavar="FOLDER FILE"
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the annotations to measure.")] = "test",
) -> None:
    """Describe the images of each benchmark, and print the recall next to the published results."""
    given = {"rsitmd": rsitmd, "rsicd": rsicd}
    benchmarks = {name: paths for name, paths in given.items() if paths is not None}
    if not benchmarks:
        raise typer.BadParameter("use --rsitmd FOLDER FILE, --rsicd FOLDER FILE, or both")
    try:
        for name, (images, annotations) in benchmarks.items():
            _link_images(images, annotations, split, output / name / "images")
    except SkytextError as error:
        sys.exit(f"bench.paper: {error}")
    for name in benchmarks:
        folder = output / name
        describe = ["caption", str(folder / "images"), "--table", str(folder / "table")]
        _call([*describe, "--archive", name, "--model", model, *context.args])
    for name, (_, annotations) in benchmarks.items():
        measure = ["evaluate", str(output / name / "table"), "--benchmark", name]
        measure += ["--annotations", str(annotations), "--split", split]
        _call([*measure, "--markdown", str(output / f"{name}.md")])


def _link_images(images: Path, annotations: Path, split: str, folder: Path) -> None:
    """Make a folder with links to the images of the split. Only these images are described.

    Raises:
        CallError: an image of the split is not in the folder of images or its sub-folders.
    """
    found = {path.name: path for path in images.rglob("*") if path.is_file()}
    names = {image.name for image in read_annotations([annotations], split).images}
    missing = sorted(names - found.keys())
    if missing:
        raise CallError(
            f"{len(missing)} images of the split {split!r} are not in {images} or its sub-folders, "
            f"for example {missing[0]}: check the folder of the images"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted(names):
        if not (folder / name).is_symlink():
            os.symlink(found[name].resolve(), folder / name)


def _call(arguments: list[str]) -> None:
    status = run(arguments)
    if status != 0:
        sys.exit(status)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(main)

if __name__ == "__main__":
    app()
