"""``skytext evaluate``: recall on the field's benchmarks and on one's own queries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skytext.cli.options import AsJson, ConfigFile, EmbeddingModel, Settings, make_config
from skytext.errors import CallError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from skytext.config import EmbedConfig
    from skytext.evaluation.recall import Ties
    from skytext.evaluation.report import Evaluation
    from skytext.evaluation.texts import Described
    from skytext.models.embedder import Embedder
    from skytext.table.images import ImagesTable

_JSONL = (".jsonl", ".ndjson")
_TIES = ("expected", "sort")


def evaluate(
    descriptions: Annotated[
        str | None,
        typer.Argument(
            help="A table, or a .jsonl of descriptions (skytext export writes one).",
            metavar="TABLE|FILE.jsonl",
        ),
    ] = None,
    annotations: Annotated[
        list[Path] | None,
        typer.Option(
            help="A benchmark's captions: dataset_*.json, *_caps.txt (with *_filename.txt), "
            ".json, .jsonl or .csv; may be repeated.",
            metavar="FILE",
        ),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            help="Your own queries, each with the images expected, instead: .csv, .json or .jsonl.",
            metavar="FILE",
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(help="Of annotations that know splits; all for all of them.")
    ] = "test",
    text_only: Annotated[
        bool,
        typer.Option("--text-only", help="No table: captions stand for images, captions search."),
    ] = False,
    ties: Annotated[
        str, typer.Option(help="Equal scores: expected (value over all orders) or sort (numpy's).")
    ] = "expected",
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave annotated images that are missing out.")
    ] = False,
    version: Annotated[
        int | None, typer.Option(help="A table version; default: the live one, else the latest.")
    ] = None,
    embedding_model: EmbeddingModel = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write the table there as Markdown.", metavar="FILE")
    ] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Measure recall@1/5/10 and mean recall, beside the published rows.

    Images are matched by file name without folder. Of a benchmark its own images are searched, with
    --queries all images.
    """
    _check(descriptions, annotations, queries, text_only, version, ties)
    resolved = make_config(config, settings)
    from skytext.cli.output import answers, print_json

    evaluation = (
        _text_only(annotations or [], split, resolved.embed, embedding_model, ties)
        if descriptions is None
        else _retrieval(
            descriptions,
            annotations,
            queries,
            split,
            resolved.embed,
            embedding_model,
            version,
            ties,
            allow_missing,
        )
    )
    if markdown is not None:
        from skytext.cli.files import write_atomically

        write_atomically(markdown, [evaluation.markdown()])
    if as_json:
        print_json(evaluation.to_json())
        return
    for line in evaluation.lines():
        answers.print(line, markup=False, soft_wrap=True)


def _check(
    descriptions: str | None,
    annotations: list[Path] | None,
    queries: Path | None,
    text_only: bool,
    version: int | None,
    ties: str,
) -> None:
    if ties not in _TIES:
        raise CallError(f"--ties must be expected or sort (given: {ties!r})")
    if (annotations is None) == (queries is None):
        raise CallError("name either --annotations FILE or --queries FILE")
    if text_only and (descriptions is not None or queries is not None):
        raise CallError("--text-only takes --annotations alone: no table, no --queries")
    if not text_only and descriptions is None:
        raise CallError("name a table or a .jsonl of descriptions, or use --text-only")
    if version is not None and (text_only or _is_jsonl(descriptions)):
        raise CallError("--version is for tables")


def _is_jsonl(descriptions: str | None) -> bool:
    return descriptions is not None and descriptions.lower().endswith(_JSONL)


def _text_only(
    annotations: list[Path], split: str, embed: EmbedConfig, model: str | None, ties: str
) -> Evaluation:
    from skytext.evaluation.annotations import read_annotations
    from skytext.evaluation.evaluate import evaluate_text_only

    read = read_annotations(annotations, split)
    embedder = _embedder(embed, model)
    return evaluate_text_only(
        read, embedder.embed_queries, ties="sort" if ties == "sort" else "expected"
    )


def _retrieval(
    descriptions: str,
    annotations: list[Path] | None,
    queries: Path | None,
    split: str,
    embed: EmbedConfig,
    model: str | None,
    version: int | None,
    ties: str,
    allow_missing: bool,
) -> Evaluation:
    from skytext.evaluation.annotations import read_annotations, read_queries
    from skytext.evaluation.evaluate import evaluate_benchmark, evaluate_queries

    # Read before a model is loaded: a wrong file is told at once.
    read = None if annotations is None else read_annotations(annotations, split)
    own = None if queries is None else read_queries(queries)
    names = None if read is None else {image.name for image in read.images}
    if _is_jsonl(descriptions):
        from skytext.evaluation.texts import described_in_jsonl

        path = Path(descriptions)
        if not path.is_file():
            raise CallError(f"there is no file {path}")
        images, embedder = described_in_jsonl(path), _embedder(embed, model)
    else:
        images, embedder = _of_table(descriptions, version, names, embed, model)

    def embed_documents(texts: Sequence[str]) -> NDArray[np.float32]:
        return embedder.embed_documents(texts).vectors

    chosen: Ties = "sort" if ties == "sort" else "expected"
    if read is not None:
        return evaluate_benchmark(
            images,
            read,
            embed_documents,
            embedder.embed_queries,
            ties=chosen,
            allow_missing=allow_missing,
        )
    return evaluate_queries(
        images,
        own or (),
        embed_documents,
        embedder.embed_queries,
        ties=chosen,
        allow_missing=allow_missing,
    )


def _of_table(
    uri: str,
    version: int | None,
    names: Collection[str] | None,
    embed: EmbedConfig,
    model: str | None,
) -> tuple[Iterator[Described], Embedder]:
    from skytext.evaluation.texts import described_in_table
    from skytext.models.factory import make_table_embedder

    table = open_table(uri, version)
    identity = table.identity
    embedder = make_table_embedder(
        table.location.uri,
        model=identity.embedding_model,
        revision=identity.embedding_revision,
        fingerprint=identity.embedding_fingerprint,
        embed=embed,
        named=model,
    )
    return described_in_table(table, names), embedder


def open_table(uri: str, version: int | None) -> ImagesTable:
    """Open a table at a version, or (None) at the one that is served."""
    from skytext.table.images import ImagesTable
    from skytext.table.location import TableLocation

    location = TableLocation.parse(uri)
    if version is None:
        return ImagesTable.open_served(location)
    return ImagesTable.open(location, version)


def _embedder(embed: EmbedConfig, model: str | None) -> Embedder:
    from skytext.models.factory import make_embedder
    from skytext.models.identity import embed_model

    config = embed if model is None else embed.model_copy(update={"model": model, "revision": None})
    return make_embedder(config, embed_model(config))
