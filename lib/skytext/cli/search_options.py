"""The options of ``skytext search``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skytext.cli.options import local_path

Words = Annotated[
    str | None, typer.Argument(help="What to look for, in plain words.", metavar="[WORDS]")
]
MoreTables = Annotated[
    list[str] | None,
    typer.Option(
        "--table",
        help="A further table, searched as one with TABLE; may be repeated. All must be embedded "
        "with the same model.",
        metavar="TABLE",
    ),
]
NumHits = Annotated[int, typer.Option("-k", help="Number of hits, 1 to 1000.")]
ModeOption = Annotated[
    str | None,
    typer.Option(
        help="dense: by the descriptions' vectors; text: by their words; hybrid: by both; "
        "image: by the images' own vectors (skytext embed-images); image+dense: by both. "
        "Default: search.mode."
    ),
]
Also = Annotated[
    list[str] | None,
    typer.Option(help="Another query in words; may be repeated.", metavar="WORDS"),
]
Like = Annotated[
    list[str] | None,
    typer.Option(help="Like this image of the table; may be repeated.", metavar="IMAGE_ID"),
]
ImageFile = Annotated[
    Path | None,
    typer.Option(
        help="Like this image file, which the table's model describes first.",
        metavar="FILE",
        parser=local_path,
    ),
]
Combine = Annotated[
    str | None,
    typer.Option(help="Several queries: max (fits any of them) or mean (fits all of them)."),
]
Positive = Annotated[
    list[str] | None,
    typer.Option(help="Move the query towards these words; may be repeated.", metavar="WORDS"),
]
Negative = Annotated[
    list[str] | None,
    typer.Option(help="Move the query away from these words; may be repeated.", metavar="WORDS"),
]
PositiveImage = Annotated[
    list[str] | None, typer.Option(help="Move the query towards this image.", metavar="IMAGE_ID")
]
NegativeImage = Annotated[
    list[str] | None, typer.Option(help="Move the query away from this image.", metavar="IMAGE_ID")
]
Cursor = Annotated[
    str | None,
    typer.Option(help="next_cursor of the same search: continue after its last hit."),
]
MinScore = Annotated[
    float | None,
    typer.Option(help="Only hits with at least this score: a cosine, -1 to 1.", metavar="SCORE"),
]
GroupDuplicates = Annotated[
    bool, typer.Option("--group-duplicates", help="One hit for near-duplicates.")
]
VersionOption = Annotated[
    int | None,
    typer.Option(
        help="A table version; default: the cursor's, else the live one, else the latest."
    ),
]
WhereOption = Annotated[
    str | None,
    typer.Option(
        help='Only images that match this filter, in CQL2, e.g. "gsd < 1 AND metadata.cloud <= 10".'
    ),
]
BoxOption = Annotated[
    str | None,
    typer.Option(
        help="Only images that intersect this box, degrees; west > east crosses the antimeridian.",
        metavar="W,S,E,N",
    ),
]
Polygon = Annotated[
    str | None,
    typer.Option(
        help="Only images that intersect this geometry: GeoJSON, WKT, or a file of one of them.",
        metavar="FILE|GEOJSON|WKT",
    ),
]
After = Annotated[
    str | None, typer.Option(help="Only images from this day or time (UTC) on.", metavar="TIME")
]
Before = Annotated[
    str | None, typer.Option(help="Only images before this day or time (UTC).", metavar="TIME")
]
Collection = Annotated[
    list[str] | None, typer.Option(help="Only images of this collection; may be repeated.")
]
GsdMin = Annotated[float | None, typer.Option(help="Metres, inclusive.")]
GsdMax = Annotated[float | None, typer.Option(help="Metres, inclusive.")]
Exact = Annotated[
    bool, typer.Option("--exact", help="Score every row; do not use the vector index.")
]
