"""``skytext export``: take the descriptions elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from skytext.cli.options import Table
from skytext.errors import CallError

_FORMATS = ("rsrt-jsonl",)


def export(
    table: Table,
    format: Annotated[
        str, typer.Option("--format", help="rsrt-jsonl: one line an image, with its variants.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="Default: stdout. A file is there whole or not at all.", metavar="FILE"),
    ] = None,
    version: Annotated[
        int | None, typer.Option(help="A table version; default: the live one, else the latest.")
    ] = None,
) -> None:
    """Write the descriptions of a table's images, streaming."""
    if format not in _FORMATS:
        raise CallError(f"--format must be one of {', '.join(_FORMATS)} (given: {format!r})")
    from skytext.cli.files import write_atomically
    from skytext.cli.measuring import open_table
    from skytext.cli.output import note, plural
    from skytext.evaluation.rsrt import rsrt_lines

    opened = open_table(table, version)
    lines = rsrt_lines(opened)
    if output is not None:
        count = write_atomically(output, lines)
        note(f"{plural(count, 'image')} of table version {opened.version} in {output}")
        return
    for line in lines:
        sys.stdout.write(line)
