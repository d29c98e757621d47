"""The options of ``skytext evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skytext.cli.options import local_path

Descriptions = Annotated[
    str | None,
    typer.Argument(
        help="A table, or a .jsonl file of descriptions (skytext export writes one).",
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
        help="Published results to print: rsitmd, rsicd, ucm, sydney, nwpu or none; default: "
        "from the name of the annotations or their folder.",
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
        help="Golden queries: .yaml, .json or .jsonl; exit status 1 if one fails.",
        metavar="FILE",
        parser=local_path,
    ),
]
AtLeast = Annotated[
    list[str] | None,
    typer.Option(
        help="With --golden: minimum of R@1, R@5, R@10 or mean_recall in percent; repeatable.",
        metavar="NAME=PERCENT",
    ),
]
Split = Annotated[str, typer.Option(help="Split of the annotations, if they have any, or all.")]
TextOnly = Annotated[
    bool,
    typer.Option("--text-only", help="No table: search captions with captions."),
]
ModeOption = Annotated[
    list[str] | None,
    typer.Option(help="dense, text or hybrid; may be repeated, like all ablations below."),
]
Pooling = Annotated[
    list[str] | None,
    typer.Option(help="Pooling of an image's variants: max, mean, max+mean or max+mean-z."),
]
Fusion = Annotated[
    list[str] | None, typer.Option(help="Fusion of dense and text: floor, z, minmax or rrf.")
]
TextWeight = Annotated[
    list[float] | None, typer.Option(help="Weight of text in hybrid; dense has 1.", min=0)
]
Granularity = Annotated[
    list[str] | None,
    typer.Option(help="Embedded part of a variant: all, sentence, feature or paragraph."),
]
Variants = Annotated[
    list[int] | None, typer.Option(help="Maximum number of variants per image.", min=1)
]
Embedder = Annotated[
    list[str] | None,
    typer.Option(help="Another embedding model, besides the default one."),
]
ImageVectors = Annotated[
    bool,
    typer.Option(
        "--image-vectors",
        help="Also measure the image vectors (skytext embed-images), alone and fused.",
    ),
]
Ties = Annotated[
    str, typer.Option(help="Equal scores: expected (mean over all orders) or sort (numpy's).")
]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="Ignore annotated images that are missing.")
]
VersionOption = Annotated[
    int | None, typer.Option(help="A table version; default: the live one, else the latest.")
]
Markdown = Annotated[
    Path | None,
    typer.Option(help="Write the table to a Markdown file.", metavar="FILE", parser=local_path),
]
Plots = Annotated[
    Path | None,
    typer.Option(
        help="Write plots of recall by k and by variants (PNG) to this folder.",
        metavar="FOLDER",
        parser=local_path,
    ),
]
