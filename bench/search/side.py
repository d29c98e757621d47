"""Build the index of one system, or run queries on it, in a separate process.

The memory of the system can be measured because the process is separate.

python -m bench.search.side SYSTEM build|serve TABLE FOLDER QUERIES.npz SPAN_S
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.search.faiss_systems import FaissHnsw, FaissIvfPq
from bench.search.measure import folder_bytes, peak_mib, served
from bench.search.systems import (
    ExactNumpy,
    LanceDb,
    PlainLance,
    Skytext,
    SkytextCopied,
    System,
)
from bench.search.table import RARE_COLLECTION
from skytext.config.environment import prepare_libraries
from skytext.config.index import IndexConfig
from skytext.filters.options import make_filter
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation

_RARE = make_filter(collections=[RARE_COLLECTION])


def _skytext_filtered() -> System:
    return Skytext(where=_RARE)


def _skytext_copied_filtered() -> System:
    return SkytextCopied(where=_RARE)


def _skytext_copied_equal() -> System:
    # In the measurement of a million images, this effort has the recall of Lance alone.
    return SkytextCopied(config=IndexConfig(search_effort=0.45))


def _lancedb_filtered() -> System:
    return LanceDb(where=f"collection = '{RARE_COLLECTION}'")


SYSTEMS: dict[str, Callable[[], System]] = {
    "skytext": Skytext,
    "skytext-copied": SkytextCopied,
    "skytext-copied-equal": _skytext_copied_equal,
    "lance": PlainLance,
    "exact": ExactNumpy,
    "faiss-ivfpq": FaissIvfPq,
    "faiss-hnsw": FaissHnsw,
    "lancedb": LanceDb,
    "skytext-filtered": _skytext_filtered,
    "skytext-copied-filtered": _skytext_copied_filtered,
    "lancedb-filtered": _lancedb_filtered,
}


def build(system: System, table: ImagesTable, folder: Path) -> dict[str, Any]:
    """Build the index. Measure the time, the memory, and the size of only the index."""
    started = time.monotonic()
    told = system.build(table, folder)
    build_s = time.monotonic() - started
    size = folder_bytes(folder) if folder.exists() else 0
    return {
        "build_s": round(build_s, 1),
        "build_cpu_s": round(time.process_time(), 1),
        "build_peak_mib": peak_mib(),
        "index_bytes_per_image": round(size / table.num_rows()),
        "told": told,
    }


def serve(
    system: System, table: ImagesTable, folder: Path, questions: Path, span_s: float
) -> dict[str, Any]:
    """Run the queries, and measure the recall, the speed and the memory."""
    with np.load(questions) as known:
        queries, truth = known["queries"], known["truth"]
    started = time.monotonic()
    search = system.open(table, folder)
    open_s = time.monotonic() - started
    found = served(search, queries, truth, span_s=span_s)
    return found | {"open_s": round(open_s, 2), "serve_peak_mib": peak_mib()}


def main(name: str, what: str, table: str, folder: str, questions: str, span_s: str) -> None:
    """Print the result as one line of JSON."""
    prepare_libraries()  # The command line and the service also do this.
    system = SYSTEMS[name]()
    opened = ImagesTable.open(TableLocation.parse(table), 1)
    if what == "build":
        found = build(system, opened, Path(folder))
    else:
        found = serve(system, opened, Path(folder), Path(questions), float(span_s))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
