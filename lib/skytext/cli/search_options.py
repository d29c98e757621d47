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
        help="Search this table together with TABLE; may be repeated. All tables must have the "
        "same embedding model.",
        metavar="TABLE",
    ),
]
NumHits = Annotated[int, typer.Option("-k", help="Number of hits, 1 to 1000.")]
ModeOption = Annotated[
    str | None,
    typer.Option(
        help="How to compare images with the query. dense: compare the vectors of descriptions. "
        "text: compare the words of descriptions. hybrid: combine dense and text. image: compare "
        "image vectors (see skytext embed-images). image+dense: combine image and dense. Default: "
        "the setting search.mode."
    ),
]
Also = Annotated[
    list[str] | None,
    typer.Option(help="Words of a further query; may be repeated.", metavar="WORDS"),
]
Like = Annotated[
    list[str] | None,
    typer.Option(
        help="Find images that are similar to this image in the table; may be repeated.",
        metavar="IMAGE_ID",
    ),
]
ImageFile = Annotated[
    Path | None,
    typer.Option(
        help="Find images that are similar to this image file. First, the caption model of the "
        "table describes the file.",
        metavar="FILE",
        parser=local_path,
    ),
]
Combine = Annotated[
    str | None,
    typer.Option(
        help="How to combine several queries. max: find images that fit at least one query. mean: "
        "find images that fit all queries."
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
        help="Show the next page of hits. The value is next_cursor from the result of the previous "
        "page."
    ),
]
MinScore = Annotated[
    float | None,
    typer.Option(help="Minimum score of a hit. The score is a cosine, -1 to 1.", metavar="SCORE"),
]
GroupDuplicates = Annotated[
    bool, typer.Option("--group-duplicates", help="Show near-duplicates as one hit.")
]
VersionOption = Annotated[
    int | None,
    typer.Option(
        help="A table version. Default: the version that is stored in --cursor. Without --cursor, "
        "the live version, or the latest version if no version is live."
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
        help="Only images that intersect this geometry. The value is GeoJSON, WKT, or a file that "
        "contains GeoJSON or WKT.",
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
