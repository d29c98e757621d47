"""The log of the service. Each line is a JSON object."""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
from collections.abc import Sequence

LOGGER = "skytext.service"
_PLAIN = frozenset(vars(logging.makeLogRecord({})))


class JsonLines(logging.Formatter):
    """Formats a log record as JSON: time, level, logger, message, and the fields of ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        moment = dt.datetime.fromtimestamp(record.created, dt.UTC)
        row: dict[str, object] = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        row |= {
            name: value
            for name, value in vars(record).items()
            if name not in _PLAIN and name != "taskName"
        }
        if record.exc_info:
            row["exception"] = self.formatException(record.exc_info)
        return json.dumps(row, ensure_ascii=False, default=str)


def configure_logs(handlers: Sequence[logging.Handler] = ()) -> None:
    """Set up the service's log handlers.

    Args:
        handlers: the log handlers to use. In a replica, these are the handlers of Ray Serve, which
            write to the log file of the replica. If this is empty, the service writes JSON lines
            to stderr.
    """
    logger = logging.getLogger(LOGGER)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers.clear()
    if not handlers:
        lines = logging.StreamHandler(sys.stderr)
        lines.setFormatter(JsonLines())
        handlers = (lines,)
    for handler in handlers:
        logger.addHandler(handler)
