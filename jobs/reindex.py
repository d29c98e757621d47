"""Re-index on a cluster: ``ray job submit -- python -m jobs.reindex SOURCE… --table T``.

Takes what ``skytext reindex`` takes. A submitted job finds its cluster through ``RAY_ADDRESS``.
"""

from __future__ import annotations

import sys

from skytext.cli import run

if __name__ == "__main__":
    sys.exit(run(["reindex", *sys.argv[1:]]))
