"""The ``skytext`` command. It prints readable output, or JSON if ``--json`` is given.

The exit status is 0 if the command succeeded, 1 if the work failed, 2 if the command line is
invalid, and 130 if the command was interrupted. Each command imports its modules only when the
command runs. This makes ``--help`` fast.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperCommand

from skytext.cli import (
    caption,
    clean,
    config,
    demo,
    doctor,
    embed_images,
    evaluate,
    export,
    failures,
    import_,
    index,
    migrate,
    plan,
    promote,
    reindex,
    repair,
    search,
    serve,
    status,
    watch,
)
from skytext.cli.os_errors import as_skytext_error, drop_stdout
from skytext.cli.typed_name import as_typed
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
app.command("reindex")(reindex.reindex)
app.command("index")(index.index)
app.command("embed-images")(embed_images.embed_images)
app.command("search")(search.search)
app.command("evaluate")(evaluate.evaluate)
app.command("export")(export.export)
app.command("import")(import_.import_)
app.command("status")(status.status)
app.command("failures")(failures.failures)
app.command("retry-failed")(failures.retry_failed)
app.command("migrate")(migrate.migrate)
app.command("clean")(clean.clean)
app.command("repair")(repair.repair)
app.command("serve")(serve.serve)
app.command("promote")(promote.promote)
app.command("rollback")(promote.rollback)
app.command("doctor")(doctor.doctor)


class _Command(TyperCommand):
    """A command that stores its arguments, so that error messages can contain the arguments."""

    def invoke(self, ctx: Any) -> Any:
        ctx.obj.update(ctx.params)
        return super().invoke(ctx)


for _command in app.registered_commands:
    _command.cls = _Command
app.add_typer(config.app, name="config")
app.add_typer(serve.keys_app, name="keys")
app.add_typer(watch.app, name="watch")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Args:
        arguments: the arguments. None means the arguments of this process.
    """
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    prepare_libraries()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Descriptions and file names can contain any character. Escape the characters that cannot
        # be encoded on this terminal.
        sys.stdout.reconfigure(errors="backslashreplace")
    called: dict[str, Any] = {}
    try:
        app(args=None if arguments is None else list(arguments), prog_name="skytext", obj=called)
    except KeyboardInterrupt:
        _say("interrupted; run the same command again to continue")
        return EXIT_INTERRUPTED
    except SkytextError as error:
        return _fail(error)
    except OSError as error:
        drop_stdout()
        return _fail(as_skytext_error(error, called.get("table")))
    except SystemExit as done:
        # typer converts Ctrl-C in a command into SystemExit.
        if done.code == EXIT_INTERRUPTED:
            _say("interrupted; run the same command again to continue")
        return done.code if isinstance(done.code, int) else 1
    return 0


def _fail(error: SkytextError) -> int:
    _say(str(error))
    return error.exit_status


def _say(text: str) -> None:
    # If stderr is not writable, ignore this. The exit status still reports the failure.
    with contextlib.suppress(OSError):
        typer.echo(f"skytext: {as_typed(text)}", err=True)
