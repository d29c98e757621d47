"""What the libraries below us read from the environment, once and for all processes.

Imports nothing: it must be set before Lance or Ray is loaded.
"""

from __future__ import annotations

import os

# Read by C++ and Rust libraries when they are loaded, and handed on to every process started.
_SETTINGS = {
    # "No existing dataset, it will be created" is no warning for the first unit of a new table.
    "LANCE_LOG": "error",
    "LANCE_INCLUDE_VECTOR_CENTROIDS": "false",
    # Lance leaves two cores to its reads, and one to all the rest where there are two: the vectors
    # of thirty rows then take 1.7 ms instead of 1.0.
    "LANCE_CPU_THREADS": str(max(2, (os.cpu_count() or 1) - 2)),
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # A thread of Ray Data that outlives `ray.shutdown` would otherwise start another Ray.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
}


def prepare_libraries() -> None:
    """Keep libraries' notes off the terminal, Ray from reporting usage, and Lance from idling.

    What a user has set stays.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
