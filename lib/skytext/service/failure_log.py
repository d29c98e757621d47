"""Log the first of several failures in a row."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from skytext.errors import SkytextError


class FailureLog:
    """Catches failures of periodic work, and logs the first of several failures in a row.

    Args:
        log: the logger.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._failing: set[str] = set()

    @contextmanager
    def catch(self, warning: str, **fields: str) -> Iterator[None]:
        """Catch errors of a store in the block, and log them as a warning.

        Args:
            warning: the message. A failure is logged only if the previous block with the same
                message and the same fields succeeded, or if there was no such block.
            fields: further fields of the log line, such as the name of a table.
        """
        work = " ".join((warning, *fields.values()))
        try:
            yield
        except (SkytextError, OSError, ValueError) as error:
            if work not in self._failing:
                self._log.warning(warning, extra=fields | {"error": str(error)})
            self._failing.add(work)
        else:
            self._failing.discard(work)
