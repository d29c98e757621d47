"""``skytext search``: find images in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from skytext.cli.options import AsJson, ConfigFile, EmbeddingModel, Settings, Table, make_config

if TYPE_CHECKING:
    from skytext.search import Hit


def search(
    table: Table,
    text: Annotated[str, typer.Argument(help="What to look for, in plain words.", metavar="WORDS")],
    k: Annotated[int, typer.Option("-k", help="Hits wanted, 1 to 1000.")] = 10,
    version: Annotated[
        int | None, typer.Option(help="A table version; default: the live one, else the latest.")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Score every row, index or not.")] = False,
    embedding_model: EmbeddingModel = None,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Find the images that fit the words best."""
    from skytext.cli.output import answers, note, print_json

    resolved = make_config(config, settings)
    from skytext.search import Searcher

    searcher = Searcher.open(
        table,
        version=version,
        embedding_model=embedding_model,
        embed=resolved.embed,
        index=resolved.index,
    )
    result = searcher.search(text, k, exact=exact)
    if as_json:
        print_json(result.to_json())
        return
    how = "exact search" if result.exact else "vector index"
    note(f"table version {result.table_version}, {how}")
    for line in hit_lines(result.hits):
        answers.print(line, markup=False, soft_wrap=True)


def hit_lines(hits: Sequence[Hit]) -> list[str]:
    """Return the lines that show hits to people, best first."""
    lines = []
    for rank, hit in enumerate(hits, start=1):
        lines.append(f"{rank:3}. {hit.score:.3f}  {hit.uri}")
        lines.append(f"            {hit.one_sentence}")
    return lines or ["no image in this table"]
