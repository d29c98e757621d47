"""Measure recall on a cluster: ``ray job submit -- python -m jobs.evaluate …``.

The arguments are the arguments of ``skytext evaluate``.
"""

from __future__ import annotations

import sys

from skytext.cli import run

if __name__ == "__main__":
    sys.exit(run(["evaluate", *sys.argv[1:]]))
