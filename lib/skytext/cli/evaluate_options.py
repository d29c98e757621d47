"""The options of ``skytext evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skytext.cli.options import local_path

Descriptions = Annotated[
    str | None,
    typer.Argument(
        help="A table, or a .jsonl file with descriptions. skytext export writes such files.",
        metavar="TABLE|FILE.jsonl",
    ),
]
Annotations = Annotated[
    list[Path] | None,
    typer.Option(
        help="A file with the captions of a benchmark: dataset_*.json, *_caps.txt (with "
        "*_filename.txt), .json, .jsonl or .csv; may be repeated.",
        metavar="FILE",
        parser=local_path,
    ),
]
Benchmark = Annotated[
    str | None,
    typer.Option(
        help="Print the published results of this benchmark: rsitmd, rsicd, ucm, sydney, nwpu or "
        "none. Default: derived from the annotation file, or from the names of its folders.",
        metavar="NAME",
    ),
]
Queries = Annotated[
    Path | None,
    typer.Option(
        help="A file with your own queries and the expected images: .csv, .json or .jsonl.",
        metavar="FILE",
        parser=local_path,
    ),
]
Golden = Annotated[
    Path | None,
    typer.Option(
        help="A file with golden queries: .yaml, .json or .jsonl. If a query fails, the exit "
        "status is 1.",
        metavar="FILE",
        parser=local_path,
    ),
]
AtLeast = Annotated[
    list[str] | None,
    typer.Option(
        help="With --golden: the minimum value of R@1, R@5, R@10 or mean_recall in percent, e.g. "
        "R@10=90; may be repeated.",
        metavar="NAME=PERCENT",
    ),
]
Split = Annotated[
    str,
    typer.Option(
        help="The split to measure, if the annotations have splits. all: measure all splits."
    ),
]
TextOnly = Annotated[
    bool,
    typer.Option(
        "--text-only",
        help="Without a table: use each caption as a query, and search the other captions.",
    ),
]
ModeOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Search mode: dense, text or hybrid. This option and the following options, up to "
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
    typer.Option(help="How mode hybrid combines dense and text scores: floor, z, minmax or rrf."),
]
TextWeight = Annotated[
    list[float] | None,
    typer.Option(
        help="Weight of the text score in mode hybrid. The weight of the dense score is 1.", min=0
    ),
]
Granularity = Annotated[
    list[str] | None,
    typer.Option(help="The part of a variant to embed: all, sentence, feature or paragraph."),
]
Variants = Annotated[
    list[int] | None, typer.Option(help="Maximum number of variants per image.", min=1)
]
Embedder = Annotated[
    list[str] | None,
    typer.Option(help="Measure this embedding model in addition to the default model."),
]
ImageVectors = Annotated[
    bool,
    typer.Option(
        "--image-vectors",
        help="Also measure searches by image vectors (see skytext embed-images): by image vectors "
        "alone, and by image vectors together with text.",
    ),
]
Ties = Annotated[
    str,
    typer.Option(
        help="How to rank images with equal scores. expected: use the mean over all possible "
        "orders. sort: use the order of numpy.argsort."
    ),
]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="Ignore annotated images that have no description.")
]
VersionOption = Annotated[
    int | None,
    typer.Option(
        help="A table version. Default: the live version, or the latest version if no version is "
        "live."
    ),
]
Markdown = Annotated[
    Path | None,
    typer.Option(help="Write the results to a Markdown file.", metavar="FILE", parser=local_path),
]
Plots = Annotated[
    Path | None,
    typer.Option(
        help="Write two kinds of plots (PNG) to this folder: recall by k, and recall by the number "
        "of variants.",
        metavar="FOLDER",
        parser=local_path,
    ),
]
