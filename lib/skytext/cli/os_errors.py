"""Convert errors of the operating system to skytext errors. The command prints them in one line."""

from __future__ import annotations

import os
import sys

from skytext.errors import CallError, JobError, SkytextError, disk_failure


def as_skytext_error(error: OSError, table: str | None) -> SkytextError:
    """Convert an unexpected OSError to a skytext error.

    Args:
        error: the error that ended the command.
        table: the address of the table that is named on the command line, or None. Errors from
            Lance contain no path. So if a disk is full, the error message contains this address.
    """
    if isinstance(error, FileNotFoundError) and _is_cwd_gone():
        return CallError(
            "the working directory was deleted. Change to another folder and run the same command "
            "again"
        )
    temporary = os.environ.get("TMPDIR", "/tmp")
    # An error from Lance has no errno.
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
    """Discard the buffered output if stdout is broken. Otherwise Python prints an error at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
