"""Read what people hand in: text, JSON and JSON lines, or an error that says where it is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skytext.errors import CallError

# The only way for half of a surrogate pair into a text that was UTF-8.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_text(path: Path) -> str:
    """Return a file's text: UTF-8, with or without a byte order mark, its lines ended by newlines.

    Split it at newlines alone: ``splitlines`` also ends lines at characters that are text in JSON
    and CSV, such as U+2028.

    Raises:
        CallError: a missing file, or one that cannot be read.
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
        text: of one value.
        place: where it stands, for the message.

    Raises:
        CallError: it is no JSON, too deep, or holds a text that is no Unicode.
    """
    try:
        value = json.loads(text)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise CallError(
            f"{place} holds a text that is no valid Unicode: half of a surrogate pair"
        ) from error
    except RecursionError as error:
        raise CallError(f"{place} is nested too deeply") from error
    except ValueError as error:
        raise CallError(f"{place} is not JSON: {error}") from error
    return value


def read_json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the values of JSON lines, one in memory at a time, each with where it stands.

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
