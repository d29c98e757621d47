"""Write a file so that it is there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from skytext.errors import CallError


def write_atomically(path: Path, lines: Iterable[str]) -> int:
    """Write lines to ``path`` as they come, put in place at the end; return how many.

    An interrupted or failed call leaves what was there before, and nothing else.

    Raises:
        CallError: the folder is not there or cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise CallError(f"cannot write {path}: {error.strerror or error}") from error
    written = Path(name)
    num_lines = 0
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            for line in lines:
                out.write(line)
                num_lines += 1
            out.flush()
            os.fsync(out.fileno())
        # mkstemp makes files for nobody else.
        umask = os.umask(0)
        os.umask(umask)
        written.chmod(0o666 & ~umask)
        written.replace(path)
    except BaseException as error:
        written.unlink(missing_ok=True)
        if isinstance(error, IsADirectoryError):
            raise CallError(f"cannot write {path}: it is a folder") from error
        raise
    return num_lines
