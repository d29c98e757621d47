"""Read text, JSON and JSON lines from users, with errors that name the location."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skytext.errors import CallError

# UTF-8 text can contain half of a surrogate pair only through this escape.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, with or without a byte order mark, with LF line ends.

    Split it only at newlines: ``splitlines`` also splits at characters that are valid text in JSON
    and CSV, such as U+2028.

    Raises:
        CallError: the file is missing or unreadable.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise CallError(f"there is no file {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise CallError(f"cannot read {path}: {error}") from error


def read_json(text: str, place: str) -> Any:
    """Parse JSON.

    Args:
        text: one JSON value.
        place: its location, for messages.

    Raises:
        CallError: it is not JSON, nested too deeply, or has a text that is not valid Unicode.
    """
    try:
        value = json.loads(text)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise CallError(
            f"{place} has a text that is not valid Unicode: half of a surrogate pair"
        ) from error
    except RecursionError as error:
        raise CallError(f"{place} is nested too deeply") from error
    except ValueError as error:
        raise CallError(f"{place} is not JSON: {error}") from error
    return value


def read_json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the values of JSON lines with their locations, one in memory at a time.

    Raises:
        CallError: as `read_text` and `read_json`.
    """
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    place = f"{path}, line {number}"
                    yield place, read_json(line, place)
    except FileNotFoundError as error:
        raise CallError(f"there is no file {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise CallError(f"cannot read {path}: {error}") from error
