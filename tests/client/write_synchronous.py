"""Write the synchronous client from the asynchronous client (``make client``).

Only the asynchronous client is edited by hand. ``unasync`` removes ``async`` and ``await``, and
replaces the names with the synchronous names.
"""

from __future__ import annotations

import sys
from pathlib import Path

import unasync

SOURCE = Path(__file__).parents[2] / "lib" / "skytext_client" / "asynchronous.py"
TARGET = SOURCE.with_name("synchronous.py")
_NAMES = {
    "AsyncBaseTransport": "BaseTransport",
    "AsyncClient": "Client",
    "AsyncRetrying": "Retrying",
    "aclose": "close",
}
_WORDS = {"for asynchronous programs": "for programs and notebooks"}


def write_synchronous(target: Path) -> None:
    """Write the synchronous client to a file."""
    source = SOURCE.read_text(encoding="utf-8")
    for old, new in _WORDS.items():
        source = source.replace(old, new)
    copy = target.with_name("asynchronous.py.tmp")
    copy.write_text(source, encoding="utf-8")
    rule = unasync.Rule(copy.name, target.name, additional_replacements=_NAMES)
    unasync.unasync_files([str(copy)], [rule])
    copy.unlink()


if __name__ == "__main__":
    write_synchronous(Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET)
