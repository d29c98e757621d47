"""Re-index on a cluster: ``ray job submit -- python -m jobs.reindex SOURCE… --table T``.

Accepts the arguments of ``skytext reindex``. A submitted job finds its cluster in ``RAY_ADDRESS``.
"""

from __future__ import annotations

import sys

from skytext.cli import run

if __name__ == "__main__":
    sys.exit(run(["reindex", *sys.argv[1:]]))
