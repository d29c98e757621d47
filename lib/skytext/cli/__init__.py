"""The ``skytext`` command: people read it on a terminal, programs take ``--json``.

Exit status: 0 done, 1 the work failed, 2 the call is wrong, 130 interrupted. Each command imports
what it needs when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from skytext.cli import caption, config, demo, doctor, index, search, status
from skytext.errors import SkytextError

EXIT_INTERRUPTED = 130

# Read by C++ and Rust libraries when they are loaded: their notes are not for this terminal.
_QUIET = {
    "LANCE_LOG": "error",
    "LANCE_INCLUDE_VECTOR_CENTROIDS": "false",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
}

app = typer.Typer(
    name="skytext",
    help="Search a remote-sensing image archive in plain words, with no training.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("demo")(demo.demo)
app.command("caption")(caption.caption)
app.command("index")(index.index)
app.command("search")(search.search)
app.command("status")(status.status)
app.command("doctor")(doctor.doctor)
app.add_typer(config.app, name="config")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Args:
        arguments: None for those of this process.
    """
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        app(args=None if arguments is None else list(arguments), prog_name="skytext")
    except SkytextError as error:
        typer.echo(f"skytext: {error}", err=True)
        return error.exit_status
    except SystemExit as done:
        # typer makes an exit of Ctrl-C, too.
        if done.code == EXIT_INTERRUPTED:
            typer.echo("skytext: interrupted; run the same command again to go on", err=True)
        return done.code if isinstance(done.code, int) else 1
    return 0
