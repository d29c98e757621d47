"""Set the environment variables that libraries read when they are loaded.

Imports nothing, because the variables must be set before Lance or Ray is loaded.
"""

from __future__ import annotations

import os

# Read by C++ and Rust libraries on loading, and inherited by every started process.
_SETTINGS = {
    # Hides "No existing dataset, it will be created" for the first unit of a new table.
    "LANCE_LOG": "error",
    "LANCE_INCLUDE_VECTOR_CENTROIDS": "false",
    # Lance reserves two cores for reads, so on two cores only one thread is left for everything
    # else. The vectors of thirty rows then take 1.7 ms instead of 1.0 ms.
    "LANCE_CPU_THREADS": str(max(2, (os.cpu_count() or 1) - 2)),
    # Started Python processes must not import from the working directory: a user may have a
    # random.py there.
    "PYTHONSAFEPATH": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # Otherwise a thread of Ray Data that outlives `ray.shutdown` would start another Ray.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
}
# This machine, and the metadata address from which a virtual machine gets cloud credentials.
_WITHOUT_PROXY = (
    *("localhost", "127.0.0.1", "::1"),
    *("169.254.169.254", "metadata.google.internal"),
)


def prepare_libraries() -> None:
    """Silence the libraries' notes, disable Ray's usage reports, and give Lance its threads.

    User settings are kept, except for proxies between processes: see `bypass_proxies`.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    bypass_proxies()


def bypass_proxies() -> None:
    """Exclude gRPC and local connections from the proxies of the environment.

    Only Ray's processes use gRPC here. Python's gRPC uses ``http_proxy`` even for this node's
    address, which a user's ``no_proxy`` rarely contains. An empty ``grpc_proxy`` means no proxy.
    The user's ``no_proxy`` is extended.
    """
    os.environ["grpc_proxy"] = ""  # noqa: SIM112  (gRPC reads just this name)
    before = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    names = [name for part in before.split(",") if (name := part.strip())]
    if "*" not in names:
        names += [name for name in _WITHOUT_PROXY if name not in names]
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(names)
