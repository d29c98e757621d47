"""``skytext import``: write existing descriptions to a table. No caption model is used."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from skytext.cli.options import (
    AsJson,
    ConfigFile,
    EmbeddingModel,
    Settings,
    TableOption,
    local_path,
    make_config,
)


def import_(
    descriptions: Annotated[
        Path,
        typer.Argument(
            help="A file with descriptions, in the format that skytext export writes.",
            metavar="FILE.jsonl",
            parser=local_path,
        ),
    ],
    table: TableOption,
    archive: Annotated[
        str | None,
        typer.Option(help="Name of the archive; default: the name of the file.", metavar="NAME"),
    ] = None,
    root: Annotated[
        str | None,
        typer.Option(
            help="The folder that contains the images, or the first part of their addresses: "
            "s3://…, gs://… or https://….",
            metavar="URI",
        ),
    ] = None,
    embedding_model: EmbeddingModel = None,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Embed existing descriptions, and write the descriptions and vectors to a table.

    A new row is written for each new image. If the descriptions of an image have changed, its row
    is replaced. Otherwise its row is kept.
    """
    resolved = make_config(config, settings, {"embed.model": embedding_model})
    from skytext.cli.output import answers, plural, print_json
    from skytext.run.import_captions import import_descriptions
    from skytext.table.location import TableLocation

    report = import_descriptions(
        descriptions, TableLocation.parse(table), resolved.embed, archive=archive, root=root
    )
    if as_json:
        print_json(report.to_json())
        return
    answers.print(
        f"{plural(report.num_listed, 'image')}: {report.num_new:,} new, {report.num_changed:,} "
        f"changed, {report.num_same:,} unchanged",
        soft_wrap=True,
    )
    answers.print(f"table version {report.table_version}; next: skytext index {shlex.quote(table)}")
