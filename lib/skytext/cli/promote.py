"""``skytext promote`` and ``skytext rollback``: choose the live version."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from skytext.cli.options import AsJson, Table

if TYPE_CHECKING:
    from skytext.table.promote_rollback import Promotion

_NUM_SHOWN = 5
Why = Annotated[str, typer.Option(help="The reason, for the history of promotions.")]


def promote(
    table: Table,
    version: Annotated[
        int | None,
        typer.Argument(help="A table version; default: the latest.", metavar="VERSION", min=1),
    ] = None,
    why: Why = "promote by hand",
    as_json: AsJson = False,
) -> None:
    """Make a version live for searches and services; services follow within seconds."""
    from skytext.table.location import TableLocation
    from skytext.table.promote_rollback import promote as promote_version

    _show(table, promote_version(TableLocation.parse(table), version, why=why), as_json)


def rollback(table: Table, why: Why = "rollback by hand", as_json: AsJson = False) -> None:
    """Go back to the version that was live before; again, and to the one before that."""
    from skytext.table.location import TableLocation
    from skytext.table.promote_rollback import rollback as roll_back

    _show(table, roll_back(TableLocation.parse(table), why=why), as_json)


def _show(table: str, now: Promotion, as_json: bool) -> None:
    from skytext.cli.output import answers, print_json
    from skytext.table.location import TableLocation
    from skytext.table.promote_rollback import promotions

    history = promotions(TableLocation.parse(table), _NUM_SHOWN)
    if as_json:
        report = {"live_version": now.version, "previous_version": now.previous_version}
        print_json(report | {"promotions": [one.to_json() for one in history]})
        return
    answers.print(f"version {now.version} is live", markup=False)
    if now.previous_version is not None:
        back = f"back to version {now.previous_version}: skytext rollback {shlex.quote(table)}"
        answers.print(back, markup=False, soft_wrap=True)
    for one in history:
        answers.print(f"  {one.described}", markup=False, soft_wrap=True)
