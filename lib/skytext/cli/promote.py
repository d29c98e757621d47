"""``skytext promote`` and ``skytext rollback``: choose the live version."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from skytext.cli.options import AsJson, Table

if TYPE_CHECKING:
    from skytext.table.promote_rollback import Promotion


def promote(
    table: Table,
    version: Annotated[
        int | None,
        typer.Argument(help="A table version; default: the latest.", metavar="VERSION", min=1),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a version live for searches and services; services follow within seconds."""
    from skytext.table.location import TableLocation
    from skytext.table.promote_rollback import promote as promote_version

    _show(table, promote_version(TableLocation.parse(table), version), as_json)


def rollback(table: Table, as_json: AsJson = False) -> None:
    """Go back to the previous live version; repeat it to go further back."""
    from skytext.table.location import TableLocation
    from skytext.table.promote_rollback import rollback as roll_back

    _show(table, roll_back(TableLocation.parse(table)), as_json)


def _show(table: str, now: Promotion, as_json: bool) -> None:
    from skytext.cli.output import answers, print_json

    if as_json:
        print_json({"live_version": now.version, "previous_version": now.previous_version})
        return
    answers.print(f"version {now.version} is live", markup=False)
    if now.previous_version is not None:
        back = f"back to version {now.previous_version}: skytext rollback {shlex.quote(table)}"
        answers.print(back, markup=False, soft_wrap=True)
