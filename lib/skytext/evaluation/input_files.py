"""Read text, JSON and JSON lines files from users. Error messages name the file and the line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skytext.errors import CallError

# A single surrogate cannot be encoded in UTF-8. JSON text can contain it only as this escape.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file.

    A byte order mark is removed, and all line ends become LF. Split the text only with
    ``split("\\n")``. The method ``splitlines`` also splits at characters that JSON and CSV allow in
    a text, such as U+2028.

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
        place: the file and the line of the value, for error messages.

    Raises:
        CallError: the text is not JSON, is nested too deeply, or contains a string that is not
            valid Unicode.
    """
    try:
        value = json.loads(text)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise CallError(
            f"{place} has a text that is not valid Unicode, because it contains a single surrogate"
        ) from error
    except RecursionError as error:
        raise CallError(f"{place} is nested too deeply") from error
    except ValueError as error:
        raise CallError(f"{place} is not JSON: {error}") from error
    return value


def read_json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the location and the value of each line of a file.

    Only one line is in memory at the same time.

    Raises:
        CallError: the file is missing or unreadable, or a line is not valid (see `read_json`).
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
