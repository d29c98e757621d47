"""The ``skytext`` command: people read it on a terminal, programs take ``--json``.

Exit status: 0 done, 1 the work failed, 2 the call is wrong, 130 interrupted. Each command imports
what it needs when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from skytext.cli import (
    caption,
    config,
    demo,
    doctor,
    embed_images,
    evaluate,
    export,
    failures,
    import_,
    index,
    plan,
    promote,
    search,
    serve,
    status,
)
from skytext.config.environment import prepare_libraries
from skytext.errors import SkytextError

EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="skytext",
    help="Search a remote-sensing image archive in plain words, with no training.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("demo")(demo.demo)
app.command("plan")(plan.plan)
app.command("caption")(caption.caption)
app.command("index")(index.index)
app.command("embed-images")(embed_images.embed_images)
app.command("search")(search.search)
app.command("evaluate")(evaluate.evaluate)
app.command("export")(export.export)
app.command("import")(import_.import_)
app.command("status")(status.status)
app.command("failures")(failures.failures)
app.command("retry-failed")(failures.retry_failed)
app.command("serve")(serve.serve)
app.command("promote")(promote.promote)
app.command("rollback")(promote.rollback)
app.command("doctor")(doctor.doctor)
app.add_typer(config.app, name="config")
app.add_typer(serve.keys_app, name="keys")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Args:
        arguments: None for those of this process.
    """
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    prepare_libraries()
    try:
        app(args=None if arguments is None else list(arguments), prog_name="skytext")
    except KeyboardInterrupt:
        typer.echo("skytext: interrupted; run the same command again to go on", err=True)
        return EXIT_INTERRUPTED
    except SkytextError as error:
        typer.echo(f"skytext: {error}", err=True)
        return error.exit_status
    except SystemExit as done:
        # typer makes an exit of Ctrl-C, too.
        if done.code == EXIT_INTERRUPTED:
            typer.echo("skytext: interrupted; run the same command again to go on", err=True)
        return done.code if isinstance(done.code, int) else 1
    return 0
