"""Run ``skytext`` in separate processes, and find all processes that they start."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil

_MARK = "SKYTEXT_PROOF"


class Command:
    """A running ``skytext`` command. An environment variable marks all processes of the command."""

    def __init__(self, folder: Path, *arguments: object, prelude: str = "") -> None:
        self.mark = uuid.uuid4().hex
        self._out, self._err = folder / f"{self.mark}.out", folder / f"{self.mark}.err"
        program = f"{prelude}\nfrom skytext.cli import main; main()"
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, *map(str, arguments)],
                env={**os.environ, _MARK: self.mark},
                cwd=folder,
                stdout=out,
                stderr=err,
            )

    @property
    def out(self) -> str:
        """The output of the command on stdout so far."""
        return self._out.read_text()

    @property
    def err(self) -> str:
        """The output of the command on stderr so far."""
        return self._err.read_text()

    def finish(self, timeout_s: float) -> int:
        """Wait for the end of the command, and return the exit status."""
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        """Kill the command immediately, as the kernel does if the memory is full."""
        self.process.kill()
        self.process.wait()

    def left(self) -> list[psutil.Process]:
        """Return all running processes of the command, including indirect child processes."""
        found = []
        for process in psutil.process_iter():
            # The process may belong to another user, or may have just ended.
            with contextlib.suppress(psutil.Error):
                if (
                    process.environ().get(_MARK) == self.mark
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(process)
        return found

    def wait_for_the_rest(self, timeout_s: float) -> list[psutil.Process]:
        """Wait until all processes of the command have ended.

        Returns:
            The processes that are still running after ``timeout_s`` seconds.
        """
        deadline = time.monotonic() + timeout_s
        while (left := self.left()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return left


@contextlib.contextmanager
def command(folder: Path, *arguments: object, prelude: str = "") -> Iterator[Command]:
    """Run ``skytext``, and kill its remaining processes at the end of the block.

    Args:
        folder: working directory of the command. Files in this folder receive the output.
        arguments: arguments of the command.
        prelude: Python code that the process of the command executes first.
    """
    started = Command(folder, *arguments, prelude=prelude)
    try:
        yield started
    finally:
        for process in started.left():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        started.process.wait()
