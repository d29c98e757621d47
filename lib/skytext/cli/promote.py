"""``skytext promote`` and ``skytext rollback``: choose the live version."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from skytext.cli.options import AsJson, Table, make_config

if TYPE_CHECKING:
    from skytext.table.versions.promote_rollback import Promotion

_NUM_SHOWN = 5
Why = Annotated[str, typer.Option(help="The reason. It is stored in the history of promotions.")]
Canary = Annotated[
    float | None,
    typer.Option(
        help="First use the version only for this share of the searches in services; at most 0.5.",
        metavar="SHARE",
    ),
]
CanaryMinutes = Annotated[
    float | None,
    typer.Option(
        help="Length of the canary test in minutes. If the version is not worse than the live "
        "version, it then becomes live; default: 30."
    ),
]


def promote(
    table: Table,
    version: Annotated[
        int | None,
        typer.Argument(
            help="A table version; default: the latest version.", metavar="VERSION", min=1
        ),
    ] = None,
    canary: Canary = None,
    canary_minutes: CanaryMinutes = None,
    why: Why = "promote by hand",
    as_json: AsJson = False,
) -> None:
    """Make a version live. New searches use the live version, and services use it within seconds.

    With --canary, services first use the version for a share of the searches. They compare the
    error rate and the response times of the version with those of the live version. If the version
    is worse, the services stop using it. Otherwise they make it live.
    """
    from skytext.table.location import TableLocation
    from skytext.table.versions.promote_rollback import promote as promote_version
    from skytext.table.versions.promote_rollback import start_canary

    location = TableLocation.parse(table)
    given = {"reindex.canary": canary, "reindex.canary_minutes": canary_minutes}
    limits = make_config(None, None, given).reindex
    if limits.canary is None:
        done = promote_version(location, version, why=why)
    else:
        share, minutes = limits.canary, limits.canary_minutes
        done = start_canary(location, version, share, minutes, why=why)
    _show(table, done, as_json)


def rollback(table: Table, why: Why = "rollback by hand", as_json: AsJson = False) -> None:
    """Make the previous live version live again. If you repeat the command, it goes further back.

    If a canary is running, the command only stops the canary. The live version does not change.
    """
    from skytext.table.location import TableLocation
    from skytext.table.versions.promote_rollback import rollback as roll_back

    _show(table, roll_back(TableLocation.parse(table), why=why), as_json)


def canary_lines(table: str, now: Promotion) -> Iterator[str]:
    """Yield lines that describe a running canary and the searches that it has served.

    Args:
        table: address of the table.
        now: the last record in the history of promotions. If it has no canary, nothing is yielded.
    """
    from skytext.table.location import TableLocation
    from skytext.table.versions.canary import all_searches

    if now.canary is None:
        return
    quoted, version = shlex.quote(table), now.canary.version
    yield f"canary: {now.canary.described}; to stop it: skytext rollback {quoted}"
    found = all_searches(TableLocation.parse(table), now.number)
    yield f"  canary        {found.canary.described}"
    yield f"  live version  {found.live.described}"
    if now.canary.is_overdue:
        yield (
            "  the time of the canary is over, but no service has ended the canary. The next "
            f"skytext reindex makes version {version} live. To make it live now, run: skytext "
            f"promote {quoted} {version}"
        )


def _show(table: str, now: Promotion, as_json: bool) -> None:
    from skytext.cli.output import answers, print_json
    from skytext.table.location import TableLocation
    from skytext.table.versions.promote_rollback import promotions

    history = promotions(TableLocation.parse(table), _NUM_SHOWN)
    if as_json:
        report = {
            "live_version": now.version,
            "previous_version": now.previous_version,
            "canary": None if now.canary is None else now.canary.to_json(),
        }
        print_json(report | {"promotions": [one.to_json() for one in history]})
        return
    answers.print(f"version {now.version} is live", markup=False)
    if now.canary is not None:
        for line in canary_lines(table, now):
            answers.print(line, markup=False, soft_wrap=True)
    elif now.previous_version is not None:
        command = f"skytext rollback {shlex.quote(table)}"
        back = f"to go back to version {now.previous_version}, run: {command}"
        answers.print(back, markup=False, soft_wrap=True)
    for one in history:
        answers.print(f"  {one.described}", markup=False, soft_wrap=True)
