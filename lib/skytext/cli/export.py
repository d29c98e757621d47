"""``skytext export``: write the descriptions to a file."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from skytext.cli.options import AsJson, Table, local_path
from skytext.errors import CallError

if TYPE_CHECKING:
    from collections.abc import Callable

    from skytext.table.images_dataset import ImagesTable

_FORMATS = ("rsrt-jsonl", "webdataset", "geojson", "parquet")
_BINARY = ("webdataset", "parquet")
_STDOUT = Path("-")


def export(
    table: Table,
    format: Annotated[
        str,
        typer.Option(
            "--format",
            help="rsrt-jsonl: one JSON line per image, with all variants of its description. "
            "webdataset: a tar file. geojson: one feature per image. parquet: all columns of the "
            "table.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            help="The file to write; - means stdout. A file is written completely or not at all.",
            metavar="FILE",
            parser=local_path,
        ),
    ] = _STDOUT,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    with_images: Annotated[
        bool, typer.Option("--with-images", help="With webdataset: also write the image files.")
    ] = False,
    with_vectors: Annotated[
        bool, typer.Option("--with-vectors", help="With parquet: also write the vectors.")
    ] = False,
    version: Annotated[
        int | None,
        typer.Option(
            help="A table version. Default: the live version, or the latest version if no version "
            "is live."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the descriptions of a table's images to a file or to stdout."""
    if format not in _FORMATS:
        raise CallError(f"--format must be one of {', '.join(_FORMATS)} (given: {format!r})")
    if with_images and format != "webdataset":
        raise CallError("--with-images needs --format webdataset")
    if with_vectors and format != "parquet":
        raise CallError("--with-vectors needs --format parquet")
    to_stdout = output == _STDOUT
    if to_stdout and as_json:
        raise CallError(
            "--json writes its result to stdout. Write the export to a file: add --output FILE"
        )
    if to_stdout and format in _BINARY and sys.stdout.isatty():
        raise CallError(
            f"{format} is a binary format, and stdout is a terminal. Write the export to a file: "
            "add --output FILE"
        )
    from skytext.cli.atomic_file import open_atomically
    from skytext.cli.open_table import open_table
    from skytext.cli.output import note, plural, print_json

    opened = open_table(table, version)
    write = _writer(format, with_images, with_vectors)
    if to_stdout:
        write(opened, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    with open_atomically(output, replace=force) as out:
        count = write(opened, out)
    if as_json:
        summary = {"num_images": count, "format": format, "output": str(output)}
        print_json(summary | {"table_version": opened.version})
        return
    note(f"wrote {plural(count, 'image')} of table version {opened.version} to {output}")


def _writer(
    format: str, with_images: bool, with_vectors: bool
) -> Callable[[ImagesTable, BinaryIO], int]:
    if format == "rsrt-jsonl":
        from skytext.export.rsrt import write_rsrt_jsonl

        return write_rsrt_jsonl
    if format == "geojson":
        from skytext.export.geojson_file import write_geojson

        return write_geojson
    if format == "parquet":
        from skytext.export.parquet_file import write_parquet

        return partial(write_parquet, with_vectors=with_vectors)
    from skytext.export.webdataset import write_webdataset

    return partial(write_webdataset, with_images=with_images)
