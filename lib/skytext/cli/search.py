"""``skytext search``: find images by words or by an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skytext.cli.options import (
    AsJson,
    ConfigFile,
    EmbeddingModel,
    Settings,
    Table,
    bands_of,
    make_config,
)
from skytext.cli.search_options import (
    After,
    Also,
    Before,
    BoxOption,
    Collection,
    Combine,
    Cursor,
    Exact,
    GroupDuplicates,
    GsdMax,
    GsdMin,
    ImageFile,
    Like,
    MinScore,
    ModeOption,
    MoreTables,
    Negative,
    NegativeImage,
    NumHits,
    Polygon,
    Positive,
    PositiveImage,
    VersionOption,
    WhereOption,
    Words,
)
from skytext.errors import ConfigError

if TYPE_CHECKING:
    from PIL import Image

    from skytext.config.settings import Config
    from skytext.search import Hit, SearchResult
    from skytext.table.images_dataset import ImagesTable

_MODEL_COLUMNS = ["caption_model", "caption_model_revision", "prompt_id", "caption_fingerprint"]


def search(
    table: Table,
    text: Words = None,
    more_tables: MoreTables = None,
    k: NumHits = 10,
    mode: ModeOption = None,
    also: Also = None,
    like: Like = None,
    image: ImageFile = None,
    combine: Combine = None,
    positive: Positive = None,
    negative: Negative = None,
    positive_image: PositiveImage = None,
    negative_image: NegativeImage = None,
    cursor: Cursor = None,
    min_score: MinScore = None,
    group_duplicates: GroupDuplicates = False,
    version: VersionOption = None,
    where: WhereOption = None,
    bbox: BoxOption = None,
    polygon: Polygon = None,
    after: After = None,
    before: Before = None,
    collection: Collection = None,
    gsd_min: GsdMin = None,
    gsd_max: GsdMax = None,
    exact: Exact = False,
    embedding_model: EmbeddingModel = None,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Find the images that best match a text or an image."""
    options = dict(locals())
    from skytext.search.options import request_fields
    from skytext.search.request import IMAGE_MODES, SearchRequest

    looks_at_images = image is not None or mode in IMAGE_MODES
    base = bands_of(table) if looks_at_images else {}
    resolved = make_config(config, settings, base=base)
    _check_mode(mode)
    _check_version(version, more_tables)
    options["intersects"] = read_polygon(polygon)
    asked = request_fields(options)
    # Check the request before a model is loaded. A query image is not described yet, so use a
    # placeholder as its description.
    SearchRequest.from_json(asked | ({} if image is None else {"described": ("an image",)}))
    described_by = None if image is None else (image, config, settings, base)
    tables = [table, *(more_tables or ())]
    _show(_search(tables, asked, described_by, version, embedding_model, resolved), as_json)


def read_polygon(polygon: str | None) -> dict[str, Any] | None:
    """Return the geometry from the option ``--polygon``, or None if the option is not given.

    Raises:
        ConfigError: the value is not a geometry, or filters do not support this kind of geometry.
    """
    from skytext.geo.shapes import read_geometry

    return None if polygon is None else read_geometry(polygon)


def _check_mode(mode: str | None) -> None:
    from skytext.search.request import RETRIEVERS

    if mode is not None and mode not in RETRIEVERS:
        raise ConfigError(f"--mode must be one of {', '.join(RETRIEVERS)} (given: {mode!r})")


def _check_version(version: int | None, more_tables: list[str] | None) -> None:
    if version is not None and more_tables:
        raise ConfigError(
            "--version can be used only with a single table. A search of several tables uses the "
            "live versions of the tables, or the versions that are stored in --cursor"
        )


def _search(
    tables: list[str],
    asked: dict[str, Any],
    described_by: tuple[Path, Path | None, list[str] | None, dict[str, Any]] | None,
    version: int | None,
    embedding_model: str | None,
    config: Config,
) -> SearchResult:
    """Search the tables. If a query image is given, describe it first."""
    from skytext.search import Searcher, cursor_versions
    from skytext.search.request import IMAGE_MODES, SearchRequest

    pixels = None
    if described_by is not None:
        from skytext.models.describe_query_image import read_image

        # Read the image before a table is opened, so that an invalid image is reported first.
        pixels = read_image(described_by[0], config.images)
    versions: tuple[int | None, ...] = (version,) * len(tables)
    if "cursor" in asked and version is None:
        versions = cursor_versions(asked["cursor"], len(tables))
    searcher = Searcher.open_many(
        tables,
        versions=versions,
        embedding_model=embedding_model,
        embed=config.embed,
        index=config.index,
        search=config.search,
        with_images=asked.get("mode") in IMAGE_MODES,
        image_embed=config.image_embed,
        images=config.images,
    )
    if described_by is not None and pixels is not None:
        _, path, settings, base = described_by
        by = make_config(path, settings, base=base | _made_by(searcher.table))
        asked = asked | {"described": _describe(searcher.table, pixels, by)}
    return searcher.search(SearchRequest.from_json(asked))


def _show(result: SearchResult, as_json: bool) -> None:
    from skytext.cli.output import answers, note, print_json

    if as_json:
        print_json(result.to_json())
        return
    how = "exact search" if result.exact else "vector index"
    versions = result.table_versions
    what = (
        f"table version {result.table_version}" if versions is None else f"{len(versions)} tables"
    )
    note(f"{what}, {result.mode}, {how}")
    for line in hit_lines(result.hits, result.note or "no image in this table"):
        answers.print(line, markup=False, soft_wrap=True)
    if result.hits and result.note is not None:
        note(result.note)
    if result.next_cursor is not None:
        note(f"for more hits, run the same search with --cursor {result.next_cursor}")


def _made_by(table: ImagesTable) -> dict[str, Any]:
    """Return the settings with which a table's images were described, if the table stores them."""
    from skytext.models.checkpoints import is_local_model

    row = table.some_row(_MODEL_COLUMNS)
    if row is None or row["caption_model"] is None:
        return {}
    caption = {"model": row["caption_model"], "prompt": row["prompt_id"]}
    if not is_local_model(row["caption_model"]):
        caption["revision"] = row["caption_model_revision"]
    return {"caption": {name: value for name, value in caption.items() if value}}


def _describe(table: ImagesTable, image: Image.Image, config: Config) -> tuple[str, ...]:
    """Describe an image with the settings in ``config``.

    If the images in the table were described with other settings, print a note.
    """
    from skytext.cli.output import note
    from skytext.models.describe_query_image import describe_image, document_texts, fingerprint_of

    row = table.some_row(_MODEL_COLUMNS)
    if row is not None and row["caption_fingerprint"] != fingerprint_of(config):
        note(
            f"the images of the table were described by {row['caption_model']}. This command "
            "describes the query image with another model or other settings, so scores may be too "
            "low"
        )
    variants = describe_image(image, config)
    note(f"description of the image: {variants[0].one_sentence}")
    return document_texts(variants)


def hit_lines(hits: Sequence[Hit], nothing: str = "no image in this table") -> list[str]:
    """Return readable lines for the hits. If there are no hits, return the line ``nothing``."""
    from skytext.cli.output import one_line

    lines = []
    for rank, hit in enumerate(hits, start=1):
        score = "–" if hit.score is None else f"{hit.score:.3f}"
        lines.append(f"{rank:3}. {score}  {one_line(hit.uri)}")
        lines.append(f"            {one_line(hit.one_sentence)}")
        if hit.table is not None:
            lines.append(f"            in {hit.table}")
        if hit.duplicates:
            lines.append(f"            and {len(hit.duplicates):,} near-duplicates")
    return lines or [nothing]
