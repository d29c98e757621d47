"""Report errors of the operating system in one line, with the right exit status."""

from __future__ import annotations

import os
import sys

from skytext.errors import CallError, JobError, SkytextError, disk_failure


def as_skytext_error(error: OSError, table: str | None) -> SkytextError:
    """Convert an unexpected OSError to an error for the caller.

    Args:
        error: the error that ended the command.
        table: the address of the command's table. If a disk is full, the message names the table,
            because Lance's errors contain no path.
    """
    if isinstance(error, FileNotFoundError) and _is_cwd_gone():
        return CallError(
            "the working directory was deleted: change into another folder and run the same "
            "command again"
        )
    temporary = os.environ.get("TMPDIR", "/tmp")
    # Lance's errors have no errno.
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
    """Discard the buffered output if stdout is broken, so that it causes no error at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
