"""Embed a table's images on a cluster: ``ray job submit -- python -m jobs.embed_images TABLE``.

The arguments are the arguments of ``skytext embed-images``. Ray sets ``RAY_ADDRESS`` for a
submitted job. So the job connects to the cluster to which it was submitted.
"""

from __future__ import annotations

import sys

from skytext.cli import run

if __name__ == "__main__":
    sys.exit(run(["embed-images", *sys.argv[1:]]))
