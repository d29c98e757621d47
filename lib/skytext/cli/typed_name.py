"""Change commands in messages so that the user can type them.

Messages contain commands such as ``skytext index``. If skytext was installed with ``make demo``,
the program is ``.venv/bin/skytext``, and the folder ``.venv/bin`` is not on the shell's PATH. In
this case, the user must type ``.venv/bin/skytext index``.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys

# fmt: off
COMMANDS = (
    "caption", "clean", "config", "demo", "doctor", "embed-images", "evaluate", "export",
    "failures", "import", "index", "keys", "migrate", "plan", "promote", "reindex", "repair",
    "retry-failed", "rollback", "search", "serve", "status", "watch",
)
# fmt: on
_NAMED = re.compile(rf"(?<![\w/.-])skytext(?= (?:{'|'.join(COMMANDS)})\b)")


def as_typed(text: str) -> str:
    """Replace ``skytext`` in the commands of a message by the path that started this process."""
    name = _name(sys.argv[0])
    return text if name == "skytext" else _NAMED.sub(lambda _: name, text)


def _name(called: str) -> str:
    if os.path.basename(called) != "skytext":
        return "skytext"
    on_path = shutil.which("skytext")
    if on_path is not None and os.path.realpath(on_path) == os.path.realpath(called):
        return "skytext"
    return shlex.quote(called)
