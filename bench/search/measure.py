"""Measure the quality, the speed and the size of a search function."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.search.truth import Rows, recall
from bench.search.vectors import Floats

K = 10
Search = Callable[[Floats, int], NDArray[np.int64]]
"""A search function. Its arguments are a unit vector and k. It returns image numbers, best first.
"""
_WARM_UP = 100


def served(
    search: Search, queries: Floats, truth: Rows, *, num_clients: int = 8, span_s: float = 10.0
) -> dict[str, Any]:
    """Run each query once with one client. Then run several clients for ``span_s`` seconds.

    Before the measurement, the last queries are run, so that the caches are filled.
    """
    for query in queries[-_WARM_UP:]:
        search(query, K)
    found, times_s = [], []
    started = time.process_time()
    for query in queries:
        begun = time.perf_counter()
        found.append(search(query, K))
        times_s.append(time.perf_counter() - begun)
    cpu_s = time.process_time() - started
    return {
        "recall_at_10": round(recall(found, truth), 4),
        "mean_hits": float(np.mean([len(rows) for rows in found])),
        "p50_ms": round(float(np.median(times_s)) * 1e3, 2),
        "p99_ms": round(float(np.quantile(times_s, 0.99)) * 1e3, 2),
        "cpu_ms": round(cpu_s / len(queries) * 1e3, 2),
        "num_queries": len(queries),
        "queries_per_s": round(_rate(search, queries, num_clients, span_s), 1),
        "num_clients": num_clients,
    }


def _rate(search: Search, queries: Floats, num_clients: int, span_s: float) -> float:
    """Return the searches per second of several clients that send queries without pauses."""
    counts = [0] * num_clients
    failures: list[Exception] = []
    end = time.monotonic() + span_s

    def ask(client: int) -> None:
        place = client * len(queries) // num_clients
        try:
            while time.monotonic() < end:
                search(queries[place % len(queries)], K)
                counts[client] += 1
                place += 1
        except Exception as error:  # noqa: BLE001 - The main thread raises this error.
            failures.append(error)

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(num_clients)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return sum(counts) / (time.monotonic() - started)


def peak_mib() -> float:
    """Return the peak resident memory of this process in MiB, including mapped files."""
    # Do not use `ru_maxrss`, because in a child process its first value is the value of the parent
    # process.
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = [line for line in status if line.startswith("VmHWM:")]
    return round(int(line.split()[1]) / 1024, 1)


def folder_bytes(folder: Path) -> int:
    """Return the size of a file, or of all files in a folder (with sub-folders), in bytes."""
    if folder.is_file():
        return folder.stat().st_size
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
