"""The options of ``skytext evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skytext.cli.options import local_path

Descriptions = Annotated[
    str | None,
    typer.Argument(
        help="A table, or a .jsonl file of descriptions (as written by skytext export).",
        metavar="TABLE|FILE.jsonl",
    ),
]
Annotations = Annotated[
    list[Path] | None,
    typer.Option(
        help="Captions of a benchmark: dataset_*.json, *_caps.txt (with *_filename.txt), "
        ".json, .jsonl or .csv; may be repeated.",
        metavar="FILE",
        parser=local_path,
    ),
]
Benchmark = Annotated[
    str | None,
    typer.Option(
        help="Benchmark whose published results are printed: rsitmd, rsicd, ucm, sydney, nwpu or "
        "none; default: derived from the name of the annotation file or its folder.",
        metavar="NAME",
    ),
]
Queries = Annotated[
    Path | None,
    typer.Option(
        help="Your own queries with the expected images: .csv, .json or .jsonl.",
        metavar="FILE",
        parser=local_path,
    ),
]
Golden = Annotated[
    Path | None,
    typer.Option(
        help="Golden queries: .yaml, .json or .jsonl. If a query fails, the exit status is 1.",
        metavar="FILE",
        parser=local_path,
    ),
]
AtLeast = Annotated[
    list[str] | None,
    typer.Option(
        help="With --golden: minimum of R@1, R@5, R@10 or mean_recall in percent; may be repeated.",
        metavar="NAME=PERCENT",
    ),
]
Split = Annotated[
    str, typer.Option(help="Split to measure if the annotations have splits, or all.")
]
TextOnly = Annotated[
    bool,
    typer.Option("--text-only", help="Search captions with captions, without a table."),
]
ModeOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Search mode: dense, text or hybrid. This option and the next ones, up to "
        "--embedder, may be repeated."
    ),
]
Pooling = Annotated[
    list[str] | None,
    typer.Option(
        help="How to combine the scores of an image's variants: max, mean, max+mean or max+mean-z."
    ),
]
Fusion = Annotated[
    list[str] | None,
    typer.Option(help="How hybrid combines dense and text scores: floor, z, minmax or rrf."),
]
TextWeight = Annotated[
    list[float] | None,
    typer.Option(help="Weight of the text score in hybrid. The dense score has weight 1.", min=0),
]
Granularity = Annotated[
    list[str] | None,
    typer.Option(help="Part of a variant that is embedded: all, sentence, feature or paragraph."),
]
Variants = Annotated[
    list[int] | None, typer.Option(help="Maximum number of variants per image.", min=1)
]
Embedder = Annotated[
    list[str] | None,
    typer.Option(help="Also measure this embedding model."),
]
ImageVectors = Annotated[
    bool,
    typer.Option(
        "--image-vectors",
        help="Also measure the image vectors (skytext embed-images), alone and combined with text.",
    ),
]
Ties = Annotated[
    str,
    typer.Option(
        help="Order of equal scores: expected (mean over all orders) or sort (numpy.argsort)."
    ),
]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="Ignore annotated images that have no description.")
]
VersionOption = Annotated[
    int | None,
    typer.Option(help="A table version; default: the live version, or the latest if none is live."),
]
Markdown = Annotated[
    Path | None,
    typer.Option(help="Write the results to a Markdown file.", metavar="FILE", parser=local_path),
]
Plots = Annotated[
    Path | None,
    typer.Option(
        help="Write plots (PNG) of recall by k and by number of variants to this folder.",
        metavar="FOLDER",
        parser=local_path,
    ),
]
