"""Build a table's indexes on a cluster: ``ray job submit -- python -m jobs.index TABLE``.

The arguments are the arguments of ``skytext index``.
"""

from __future__ import annotations

import sys

from skytext.cli import run

if __name__ == "__main__":
    sys.exit(run(["index", *sys.argv[1:]]))
