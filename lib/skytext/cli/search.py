"""``skytext search``: find images in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from skytext.cli.image_search import IMAGE_MODES, search_images
from skytext.cli.options import AsJson, ConfigFile, EmbeddingModel, Settings, Table, make_config
from skytext.errors import ConfigError

if TYPE_CHECKING:
    from skytext.search import Hit


def search(
    table: Table,
    text: Annotated[str, typer.Argument(help="What to look for, in plain words.", metavar="WORDS")],
    k: Annotated[int, typer.Option("-k", help="Hits wanted, 1 to 1000.")] = 10,
    mode: Annotated[
        str,
        typer.Option(
            help="dense: by the descriptions; image: by the images' own vectors (skytext "
            "embed-images); image+dense: by both."
        ),
    ] = "dense",
    version: Annotated[
        int | None, typer.Option(help="A table version; default: the live one, else the latest.")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(help='Only images that fulfil this, e.g. "gsd < 1 and metadata.cloud <= 10".'),
    ] = None,
    bbox: Annotated[
        str | None,
        typer.Option(
            help="Only images that meet this box in degrees; west > east crosses the antimeridian.",
            metavar="W,S,E,N",
        ),
    ] = None,
    after: Annotated[
        str | None, typer.Option(help="Only images from this day or time (UTC) on.", metavar="TIME")
    ] = None,
    before: Annotated[
        str | None, typer.Option(help="Only images before this day or time (UTC).", metavar="TIME")
    ] = None,
    collection: Annotated[
        list[str] | None, typer.Option(help="Only images of this collection; may be repeated.")
    ] = None,
    gsd_min: Annotated[float | None, typer.Option(help="Metres, inclusive.")] = None,
    gsd_max: Annotated[float | None, typer.Option(help="Metres, inclusive.")] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Score every row, index or not.")] = False,
    embedding_model: EmbeddingModel = None,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Find the images that fit the words best."""
    from skytext.cli.output import answers, note, print_json

    if mode != "dense" and mode not in IMAGE_MODES:
        modes = ", ".join(("dense", *IMAGE_MODES))
        raise ConfigError(f"--mode must be one of {modes} (given: {mode!r})")
    resolved = make_config(config, settings)
    from skytext.filters import make_filter

    condition = make_filter(
        where=where,
        bbox=None if bbox is None else parse_box(bbox),
        after=after,
        before=before,
        collections=collection or (),
        gsd_min=gsd_min,
        gsd_max=gsd_max,
    )
    if mode in IMAGE_MODES:
        search_images(
            table,
            text,
            k,
            mode=mode,
            version=version,
            where=condition,
            exact=exact,
            embedding_model=embedding_model,
            config=resolved,
            as_json=as_json,
        )
        return
    from skytext.search import Searcher

    searcher = Searcher.open(
        table,
        version=version,
        embedding_model=embedding_model,
        embed=resolved.embed,
        index=resolved.index,
    )
    result = searcher.search(text, k, exact=exact, where=condition)
    if as_json:
        print_json(result.to_json())
        return
    how = "exact search" if result.exact else "vector index"
    note(f"table version {result.table_version}, {how}")
    nothing = "no image in this table" if condition is None else "no image matches the filter"
    for line in hit_lines(result.hits, nothing):
        answers.print(line, markup=False, soft_wrap=True)


def parse_box(text: str) -> list[float]:
    """Read ``W,S,E,N``.

    Raises:
        ConfigError: these are no four numbers.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 4:
        raise ConfigError(
            f"--bbox {text!r} must be W,S,E,N: four numbers with commas, e.g. -10.5,35,4,44"
        )
    return numbers


def hit_lines(hits: Sequence[Hit], nothing: str = "no image in this table") -> list[str]:
    """Return the lines that show hits to people, best first; ``nothing`` without hits."""
    lines = []
    for rank, hit in enumerate(hits, start=1):
        lines.append(f"{rank:3}. {hit.score:.3f}  {hit.uri}")
        lines.append(f"            {hit.one_sentence}")
    return lines or [nothing]
