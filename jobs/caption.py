"""Caption an archive on a cluster: ``ray job submit -- python -m jobs.caption SOURCE… --table T``.

Accepts the arguments of ``skytext caption``. A submitted job finds its cluster in ``RAY_ADDRESS``.
"""

from __future__ import annotations

import sys

from skytext.cli import run

if __name__ == "__main__":
    sys.exit(run(["caption", *sys.argv[1:]]))
