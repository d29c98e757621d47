"""Set the environment variables that libraries read when they are loaded.

This module imports no other module of skytext, because the variables must be set before Lance or
Ray is loaded.
"""

from __future__ import annotations

import os

# C++ and Rust libraries read these variables when they are loaded. All child processes inherit the
# variables.
_SETTINGS = {
    # "error" hides the message "No existing dataset, it will be created" for a new table.
    "LANCE_LOG": "error",
    "LANCE_INCLUDE_VECTOR_CENTROIDS": "false",
    # Lance reserves two cores for reads. On a machine with two cores, Lance therefore has by
    # default only one thread for all other work. To read the vectors of thirty rows, Lance needs
    # 1.7 ms with one thread and 1.0 ms with two threads.
    "LANCE_CPU_THREADS": str(max(2, (os.cpu_count() or 1) - 2)),
    # Python processes that Ray starts must not import modules from the working directory, because
    # the user may have a file such as random.py there.
    "PYTHONSAFEPATH": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # Without this setting, a thread of Ray Data that still runs after `ray.shutdown` would start
    # Ray again.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
}
# The addresses of this machine, and the addresses of the metadata servers from which a virtual
# machine gets its cloud credentials.
_WITHOUT_PROXY = (
    *("localhost", "127.0.0.1", "::1"),
    *("169.254.169.254", "metadata.google.internal"),
)


def prepare_libraries() -> None:
    """Hide messages of libraries, disable Ray's usage reports, and set Lance's number of threads.

    Variables that the user has set are not changed, except the proxy variables that
    `bypass_proxies` sets.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    bypass_proxies()


def bypass_proxies() -> None:
    """Set environment variables so that gRPC and local connections use no proxy.

    In skytext only Ray's processes use gRPC. Python's gRPC uses ``http_proxy`` even for connections
    to this node, because a user's ``no_proxy`` rarely contains the address of the node. If
    ``grpc_proxy`` is empty, gRPC uses no proxy. The local addresses are added to the user's
    ``no_proxy``, so that local connections use no proxy.
    """
    os.environ["grpc_proxy"] = ""  # noqa: SIM112  (gRPC reads only this name)
    before = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    names = [name for part in before.split(",") if (name := part.strip())]
    if "*" not in names:
        names += [name for name in _WITHOUT_PROXY if name not in names]
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(names)
