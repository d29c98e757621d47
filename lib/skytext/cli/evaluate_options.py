"""The options of ``skytext evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skytext.cli.options import local_path

Descriptions = Annotated[
    str | None,
    typer.Argument(
        help="A table, or a .jsonl of descriptions (skytext export writes one).",
        metavar="TABLE|FILE.jsonl",
    ),
]
Annotations = Annotated[
    list[Path] | None,
    typer.Option(
        help="A benchmark's captions: dataset_*.json, *_caps.txt (with *_filename.txt), "
        ".json, .jsonl or .csv; may be repeated.",
        metavar="FILE",
        parser=local_path,
    ),
]
Benchmark = Annotated[
    str | None,
    typer.Option(
        help="Whose published rows are printed: rsitmd, rsicd, ucm, sydney, nwpu or none; default: "
        "what the annotations or their folders are called.",
        metavar="NAME",
    ),
]
Queries = Annotated[
    Path | None,
    typer.Option(
        help="Your own queries, each with the images expected, instead: .csv, .json or .jsonl.",
        metavar="FILE",
        parser=local_path,
    ),
]
Golden = Annotated[
    Path | None,
    typer.Option(
        help="Golden queries instead: .yaml, .json or .jsonl; exit status 1 where they fail.",
        metavar="FILE",
        parser=local_path,
    ),
]
AtLeast = Annotated[
    list[str] | None,
    typer.Option(
        help="With --golden: R@1, R@5, R@10 or mean_recall in percent; may be repeated.",
        metavar="NAME=PERCENT",
    ),
]
Split = Annotated[str, typer.Option(help="Of annotations that know splits; all for all of them.")]
TextOnly = Annotated[
    bool,
    typer.Option("--text-only", help="No table: captions stand for images, captions search."),
]
ModeOption = Annotated[
    list[str] | None,
    typer.Option(help="dense, text or hybrid; may be repeated, like all ablations below."),
]
Pooling = Annotated[
    list[str] | None,
    typer.Option(help="Of an image's variants: max, mean, max+mean or max+mean-z."),
]
Fusion = Annotated[
    list[str] | None, typer.Option(help="Of dense and text: floor, z, minmax or rrf.")
]
TextWeight = Annotated[
    list[float] | None, typer.Option(help="Of text beside dense's 1, in hybrid.", min=0)
]
Granularity = Annotated[
    list[str] | None,
    typer.Option(help="What of a variant is embedded: all, sentence, feature or paragraph."),
]
Variants = Annotated[
    list[int] | None, typer.Option(help="At most so many variants an image.", min=1)
]
Embedder = Annotated[
    list[str] | None,
    typer.Option(help="Another embedding model, beside the one that is there."),
]
ImageVectors = Annotated[
    bool,
    typer.Option(
        "--image-vectors",
        help="Measure the images' own vectors too (skytext embed-images), alone and fused.",
    ),
]
Ties = Annotated[
    str, typer.Option(help="Equal scores: expected (value over all orders) or sort (numpy's).")
]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="Leave annotated images that are missing out.")
]
VersionOption = Annotated[
    int | None, typer.Option(help="A table version; default: the live one, else the latest.")
]
Markdown = Annotated[
    Path | None,
    typer.Option(help="Write the table there as Markdown.", metavar="FILE", parser=local_path),
]
Plots = Annotated[
    Path | None,
    typer.Option(
        help="Draw recall by k and by variants as PNG there.",
        metavar="FOLDER",
        parser=local_path,
    ),
]
