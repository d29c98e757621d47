"""Embed a table's images on a cluster: ``ray job submit -- python -m jobs.embed_images TABLE``.

Accepts the arguments of ``skytext embed-images``. A submitted job finds its cluster in
``RAY_ADDRESS``.
"""

from __future__ import annotations

import sys

from skytext.cli import run

if __name__ == "__main__":
    sys.exit(run(["embed-images", *sys.argv[1:]]))
