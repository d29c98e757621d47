"""``skytext search``: find images in plain words, or like an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skytext.cli.image_search import IMAGE_MODES, search_images
from skytext.cli.options import AsJson, ConfigFile, EmbeddingModel, Settings, Table, make_config
from skytext.errors import ConfigError

if TYPE_CHECKING:
    from PIL import Image

    from skytext.config import Config
    from skytext.search import Hit, SearchResult
    from skytext.table.images import ImagesTable

_MODES = ("dense", "text", "hybrid")
_MODEL_COLUMNS = ["caption_model", "caption_model_revision", "prompt_id", "caption_fingerprint"]


def search(
    table: Table,
    text: Annotated[
        str | None, typer.Argument(help="What to look for, in plain words.", metavar="[WORDS]")
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Hits wanted, 1 to 1000.")] = 10,
    mode: Annotated[
        str | None,
        typer.Option(
            help="dense: by the descriptions' vectors; text: by their words; hybrid: by both; "
            "image: by the images' own vectors (skytext embed-images); image+dense: by both. "
            "Default: search.mode."
        ),
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(help="Further words, a query of their own; may be repeated.", metavar="WORDS"),
    ] = None,
    like: Annotated[
        list[str] | None,
        typer.Option(help="Like this image of the table; may be repeated.", metavar="IMAGE_ID"),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(help="Like this image file, which the table's model describes first."),
    ] = None,
    combine: Annotated[
        str | None,
        typer.Option(help="Several queries: max (fits any of them) or mean (fits all of them)."),
    ] = None,
    positive: Annotated[
        list[str] | None,
        typer.Option(help="Move the query towards these words; may be repeated.", metavar="WORDS"),
    ] = None,
    negative: Annotated[
        list[str] | None,
        typer.Option(help="Away from these words; may be repeated.", metavar="WORDS"),
    ] = None,
    positive_image: Annotated[
        list[str] | None, typer.Option(help="Towards this image.", metavar="IMAGE_ID")
    ] = None,
    negative_image: Annotated[
        list[str] | None, typer.Option(help="Away from this image.", metavar="IMAGE_ID")
    ] = None,
    cursor: Annotated[
        str | None,
        typer.Option(help="next_cursor of the same search: go on behind its last hit."),
    ] = None,
    group_duplicates: Annotated[
        bool, typer.Option("--group-duplicates", help="One hit for near-duplicates.")
    ] = False,
    version: Annotated[
        int | None,
        typer.Option(
            help="A table version; default: the cursor's, else the live one, else the latest."
        ),
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
    from skytext.cli.output import print_json

    if mode is not None and mode not in (*_MODES, *IMAGE_MODES):
        modes = ", ".join((*_MODES, *IMAGE_MODES))
        raise ConfigError(f"--mode must be one of {modes} (given: {mode!r})")
    resolved = make_config(config, settings)
    from skytext.filters import make_filter
    from skytext.search_request import SearchRequest

    condition = make_filter(
        where=where,
        bbox=None if bbox is None else parse_box(bbox),
        after=after,
        before=before,
        collections=collection or (),
        gsd_min=gsd_min,
        gsd_max=gsd_max,
    )
    asked: dict[str, Any] = {
        "text": text,
        "texts": also or (),
        "like": like or (),
        "combine": combine or "max",
        "positive": _examples(positive, positive_image),
        "negative": _examples(negative, negative_image),
        "mode": None if mode in IMAGE_MODES else mode,
        "k": k,
        "where": condition,
        "cursor": cursor,
        "group_duplicates": group_duplicates,
        "exact": exact,
    }
    # Before a model is loaded: with an image, what it shows stands for what will be said of it.
    checked = SearchRequest.from_json(
        asked | ({} if image is None else {"described": ("an image",)})
    )
    if mode in IMAGE_MODES:
        if checked != SearchRequest(text=text, k=k, where=condition, exact=exact):
            raise ConfigError(f"--mode {mode} takes words, a filter, -k and --exact alone")
        search_images(
            table,
            str(text),
            k,
            mode=str(mode),
            version=version,
            where=condition,
            exact=exact,
            embedding_model=embedding_model,
            config=resolved,
            as_json=as_json,
        )
        return
    pixels = None
    if image is not None:
        from skytext.models.describe import read_image

        pixels = read_image(image, resolved.images)
    from skytext.search import Searcher, cursor_version

    if cursor is not None and version is None:
        version = cursor_version(cursor)
    searcher = Searcher.open(
        table,
        version=version,
        embedding_model=embedding_model,
        embed=resolved.embed,
        index=resolved.index,
        search=resolved.search,
    )
    if pixels is not None:
        asked["described"] = _describe(
            searcher.table, pixels, make_config(config, settings, base=_made_by(searcher.table))
        )
    result = searcher.search(SearchRequest.from_json(asked))
    if as_json:
        print_json(result.to_json())
    else:
        _show(result)


def _show(result: SearchResult) -> None:
    from skytext.cli.output import answers, note

    how = "exact search" if result.exact else "vector index"
    note(f"table version {result.table_version}, {result.mode}, {how}")
    for line in hit_lines(result.hits, result.note or "no image in this table"):
        answers.print(line, markup=False, soft_wrap=True)
    if result.next_cursor is not None:
        note(f"more: the same search with --cursor {result.next_cursor}")


def _examples(texts: list[str] | None, images: list[str] | None) -> list[dict[str, str]]:
    found = [{"text": text} for text in texts or ()]
    return found + [{"image_id": image_id} for image_id in images or ()]


def _made_by(table: ImagesTable) -> dict[str, Any]:
    """Return the settings by which a table's images were described, as far as its rows tell."""
    from skytext.models.identity import is_local_model

    row = table.some_row(_MODEL_COLUMNS)
    if row is None or row["caption_model"] is None:
        return {}
    caption = {"model": row["caption_model"], "prompt": row["prompt_id"]}
    if not is_local_model(row["caption_model"]):
        caption["revision"] = row["caption_model_revision"]
    return {"caption": {name: value for name, value in caption.items() if value}}


def _describe(table: ImagesTable, image: Image.Image, config: Config) -> tuple[str, ...]:
    """Describe an image with the model of the table, or the one that the settings name."""
    from skytext.cli.output import note
    from skytext.models.describe import describe_image, document_texts, fingerprint_of

    row = table.some_row(_MODEL_COLUMNS)
    if row is not None and row["caption_fingerprint"] != fingerprint_of(config):
        note(
            f"the table was described by {row['caption_model']} with other settings than these: "
            "scores may be lower than they should"
        )
    variants = describe_image(image, config)
    note(f"the image: {variants[0].one_sentence}")
    return document_texts(variants)


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
        if hit.duplicates:
            lines.append(f"            and {len(hit.duplicates):,} near-duplicates")
    return lines or [nothing]
