"""Embed a table's images on a cluster: ``ray job submit -- python -m jobs.embed_images TABLE``.

Takes what ``skytext embed-images`` takes. A submitted job finds its cluster through
``RAY_ADDRESS``.
"""

from __future__ import annotations

import sys

from skytext.cli import run

if __name__ == "__main__":
    sys.exit(run(["embed-images", *sys.argv[1:]]))
