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
    # Python processes that are started import nothing from the working directory, where a user may
    # have a random.py.
    "PYTHONSAFEPATH": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # A thread of Ray Data that outlives `ray.shutdown` would otherwise start another Ray.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
}
# This machine, and what tells a virtual machine of itself: a cloud's credentials come from there.
_WITHOUT_PROXY = (
    *("localhost", "127.0.0.1", "::1"),
    *("169.254.169.254", "metadata.google.internal"),
)


def prepare_libraries() -> None:
    """Keep libraries' notes off the terminal, Ray from reporting usage, and Lance from idling.

    What a user has set stays, but for a proxy between processes: see `bypass_proxies`.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    bypass_proxies()


def bypass_proxies() -> None:
    """Keep gRPC, and what goes to this machine, off the proxies of the environment.

    gRPC is spoken between Ray's processes only. Python's gRPC follows ``http_proxy``, also to the
    address of this node, which a user's ``no_proxy`` rarely names. An empty ``grpc_proxy`` means no
    proxy. The user's ``no_proxy`` is added to.
    """
    os.environ["grpc_proxy"] = ""  # noqa: SIM112  (gRPC reads just this name)
    before = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    names = [name for part in before.split(",") if (name := part.strip())]
    if "*" not in names:
        names += [name for name in _WITHOUT_PROXY if name not in names]
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(names)
