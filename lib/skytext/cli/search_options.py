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
        help="A further table, searched together with TABLE; may be repeated. All tables must have "
        "the same embedding model.",
        metavar="TABLE",
    ),
]
NumHits = Annotated[int, typer.Option("-k", help="Number of hits, 1 to 1000.")]
ModeOption = Annotated[
    str | None,
    typer.Option(
        help="How to compare images with the query. dense: by the vectors of the descriptions; "
        "text: by the words of the descriptions; hybrid: by dense and text; image: by the vectors "
        "of the images (skytext embed-images); image+dense: by image and dense. Default: the "
        "setting search.mode."
    ),
]
Also = Annotated[
    list[str] | None,
    typer.Option(help="Words of a further query; may be repeated.", metavar="WORDS"),
]
Like = Annotated[
    list[str] | None,
    typer.Option(
        help="Find images like this image of the table; may be repeated.", metavar="IMAGE_ID"
    ),
]
ImageFile = Annotated[
    Path | None,
    typer.Option(
        help="Find images like this image file. The model of the table describes the file first.",
        metavar="FILE",
        parser=local_path,
    ),
]
Combine = Annotated[
    str | None,
    typer.Option(
        help="How to combine several queries: max (an image fits one of them) or mean (an image "
        "fits all of them)."
    ),
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
    list[str] | None,
    typer.Option(help="Move the query towards this image; may be repeated.", metavar="IMAGE_ID"),
]
NegativeImage = Annotated[
    list[str] | None,
    typer.Option(help="Move the query away from this image; may be repeated.", metavar="IMAGE_ID"),
]
Cursor = Annotated[
    str | None,
    typer.Option(
        help="Show the next page of a search: next_cursor from the result of that search."
    ),
]
MinScore = Annotated[
    float | None,
    typer.Option(help="Minimum score of a hit: a cosine, -1 to 1.", metavar="SCORE"),
]
GroupDuplicates = Annotated[
    bool, typer.Option("--group-duplicates", help="Show near-duplicates as one hit.")
]
VersionOption = Annotated[
    int | None,
    typer.Option(
        help="A table version; default: the version of the cursor, or the live version, or the "
        "latest if none is live."
    ),
]
WhereOption = Annotated[
    str | None,
    typer.Option(
        help='Only images that fulfil this CQL2 condition, e.g. "gsd < 1 AND metadata.cloud <= 10".'
    ),
]
BoxOption = Annotated[
    str | None,
    typer.Option(
        help="Only images that intersect this box, in degrees. If W > E, the box crosses the "
        "antimeridian.",
        metavar="W,S,E,N",
    ),
]
Polygon = Annotated[
    str | None,
    typer.Option(
        help="Only images that intersect this geometry: GeoJSON, WKT, or a file with one of them.",
        metavar="FILE|GEOJSON|WKT",
    ),
]
After = Annotated[
    str | None,
    typer.Option(help="Only images taken at or after this day or time (UTC).", metavar="TIME"),
]
Before = Annotated[
    str | None,
    typer.Option(help="Only images taken before this day or time (UTC).", metavar="TIME"),
]
Collection = Annotated[
    list[str] | None, typer.Option(help="Only images of this collection; may be repeated.")
]
GsdMin = Annotated[
    float | None, typer.Option(help="Minimum ground sample distance in metres, inclusive.")
]
GsdMax = Annotated[
    float | None, typer.Option(help="Maximum ground sample distance in metres, inclusive.")
]
Exact = Annotated[
    bool, typer.Option("--exact", help="Score every row, even if there is a vector index.")
]
