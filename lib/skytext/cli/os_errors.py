"""Say in one line what the operating system refused, and end with the right status."""

from __future__ import annotations

import os
import sys

from skytext.errors import CallError, JobError, SkytextError, disk_failure


def told(error: OSError, table: str | None) -> SkytextError:
    """Return what an error that no command expected means to the caller.

    Args:
        error: what ended the command.
        table: the table that it was called with; Lance's errors name no path when a disk is full.
    """
    if isinstance(error, FileNotFoundError) and _is_cwd_gone():
        return CallError(
            "the working directory was deleted: change into another folder and run the same "
            "command again"
        )
    temporary = os.environ.get("TMPDIR", "/tmp")
    # Lance's errors have no number of their own.
    written = "stdout" if error.errno is not None else table or "the table"
    disk = disk_failure(error, f"{written} or the temporary folder {temporary}")
    if disk is not None:
        return JobError(disk)
    path = "" if error.filename is None else f": {error.filename}"
    text = error.strerror or " ".join(str(error).split())[:300] or type(error).__name__
    return JobError(f"{text}{path}: run the same command again")


def _is_cwd_gone() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def drop_stdout() -> None:
    """Keep Python from writing once more, at its end, what stdout refused."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
