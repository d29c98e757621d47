"""``skytext index``: build or refresh the indexes."""

from __future__ import annotations

from typing import Annotated

import typer

from skytext.cli.options import AsJson, ConfigFile, Settings, Table, make_config


def index(
    table: Table,
    vector: Annotated[
        str | None,
        typer.Option(help="auto (from 10,000 rows on), always or never."),
    ] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Build or refresh a table's indexes: vector, full text, scalar.

    The first index of a table with nothing live promotes it.
    """
    from skytext.cli.output import answers, print_json
    from skytext.table.image_index import build_image_index
    from skytext.table.images import ImagesTable
    from skytext.table.index import build_indexes
    from skytext.table.location import TableLocation

    resolved = make_config(config, settings, {"index.vector": vector})
    images = ImagesTable.open(TableLocation.parse(table))
    # Before the others: the first index promotes, and what it promotes has them all.
    image_partitions = build_image_index(images, resolved.index)
    report = build_indexes(images, resolved.index)
    if as_json:
        print_json(report.to_json() | {"image_vector_partitions": image_partitions})
        return
    kind = (
        f"{report.vector}, {report.num_partitions} partitions"
        if report.vector
        else f"none: {report.num_rows:,} rows are searched exactly"
    )
    answers.print(f"vector index: {kind}; full text and scalar indexes built", soft_wrap=True)
    if image_partitions is not None:
        answers.print(f"image vectors: index of {image_partitions} partitions")
    state = "now live" if report.promoted else "not live: skytext status says which version is"
    answers.print(f"table version {report.table_version}, {state}")
    answers.print(f'next: skytext search {table} "a river beside a town"', soft_wrap=True)
