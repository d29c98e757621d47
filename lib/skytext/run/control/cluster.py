"""Start or join Ray, and translate its failures."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.job_config import JobConfig

from skytext.config.environment import prepare_libraries
from skytext.config.settings import Config
from skytext.errors import ConfigError, JobError, SkytextError, disk_failure
from skytext.run.control.ray_temp_dir import short_temp_dir

_DEFAULT_OBJECT_STORE_BYTES = 512 * 2**20
_CONNECT_TIMEOUT_S = 10.0
KEEP_WORKERS = {"num_workers_soft_limit": 8}
"""Ray's own setting; its default is the number of CPUs. Ray ends idle workers beyond this number
after one second, and the next task must start a new process. On two CPUs this delayed every commit
by one to two seconds."""


@contextmanager
def ray_cluster(address: str | None, config: Config) -> Iterator[None]:
    """Join the cluster at ``address`` (or ``RAY_ADDRESS``); without one, start a local Ray.

    A Ray that is already initialised in this process is used and left running. A local Ray ends
    with the block.

    Raises:
        ConfigError: no Ray cluster answers at the address.
        JobError: the cluster rejects the connection, or a local Ray cannot start.
    """
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    if address:
        _check_reachable(address)
    prepare_libraries()
    _quiet_ray_data()
    # Ray prints messages of the cluster on stdout, such as the last log lines of a lost node.
    with (
        contextlib.redirect_stdout(sys.stderr),
        _joined(address) if address else local_ray(config),
    ):
        yield


class _DriverPath(JobConfig):
    """Gives workers the import path of this process.

    Ray puts the working directory first on its workers' path, even if this process does not import
    from it. A ``random.py`` there would crash every worker.
    """

    def _get_proto_job_config(self) -> Any:
        ours = {os.path.abspath(path) for path in sys.path}
        wanted: list[str] = self._py_driver_sys_path
        wanted[:] = [path for path in wanted if path in ours]
        return super()._get_proto_job_config()


@contextmanager
def _joined(address: str) -> Iterator[None]:
    try:
        ray.init(
            address=address,
            # A Ray client server (ray://) creates its own object, and may lack this class.
            job_config=None if "://" in address else _DriverPath(),
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        message = " ".join(str(error).split())[:300]
        if "RAY_AUTH_MODE" not in os.environ:
            # `ray start` requires the token of ~/.ray if there is one; a plain address sends none.
            message += " (does the cluster need a token? set RAY_AUTH_MODE=token)"
        raise JobError(f"cannot use the Ray cluster at {address}: {message}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Reject an address without a listener. Ray itself would retry for many minutes.

    Raises:
        ConfigError: no Ray cluster answers.
    """
    if address.startswith(("http://", "https://")):
        raise ConfigError(
            f"{address} is for `ray job submit`: name the cluster as HOST:6379, or leave "
            "--ray-address and RAY_ADDRESS out for a local Ray"
        )
    host, _, port = address.removeprefix("ray://").rpartition(":")
    host = host.removeprefix("[").removesuffix("]")  # IPv6
    if not host or not port.isdigit():
        return  # Ray itself resolves values such as "auto", or fails at once.
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise ConfigError(
            f"no Ray cluster answers at {address} ({error}): check --ray-address and RAY_ADDRESS, "
            "or leave both out for a local Ray"
        ) from error


def _quiet_ray_data() -> None:
    """Write Ray Data's failure details only to its log files; the command prints one line."""
    import ray.data  # noqa: F401  (installs the handlers)

    for handler in logging.getLogger("ray.data").handlers:
        if type(handler).__name__ != "SessionFileHandler":
            handler.setLevel(logging.CRITICAL)


@contextmanager
def _held_back_stderr() -> Iterator[None]:
    """Suppress the stderr of Ray's C++ code during the start; show it if the start fails.

    With RAY_BACKEND_LOG_LEVEL set, Ray first prints a line about that setting.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        started = False
        try:
            yield
            started = True
        finally:
            if not started:
                held.seek(0)
                os.write(stderr, held.read())
            os.dup2(stderr, 2)
            os.close(stderr)


@contextmanager
def local_ray(config: Config, num_cpus: int | None = None) -> Iterator[None]:
    """Start a quiet Ray on this machine, and end it with the block.

    Ray installs its own signal handlers. Callers with handlers must install theirs afterwards.

    Args:
        config: contains the size of the object store.
        num_cpus: number of CPUs to offer; None for the machine's cores.

    Raises:
        ConfigError: no temporary folder is suitable for its sockets.
        JobError: Ray does not start.
    """
    with short_temp_dir():
        try:
            _start_local(config, num_cpus)
            yield
        finally:
            ray.shutdown()


def _start_local(config: Config, num_cpus: int | None) -> None:
    with _held_back_stderr(), warnings.catch_warnings():
        # Ray forks only to execute its own programs at once, which is safe for Lance.
        warnings.filterwarnings("ignore", message="lance is not fork-safe")
        try:
            ray.init(
                address="local",
                job_config=_DriverPath(),
                num_cpus=num_cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=config.job.object_store_bytes or _DEFAULT_OBJECT_STORE_BYTES,
                _system_config=KEEP_WORKERS,
            )
        # Ray raises a bare Exception if a node does not start in time.
        except Exception as error:
            message = " ".join(str(error).split())[:300]
            raise JobError(f"cannot start a local Ray: {message}") from error


def job_error(error: RayError) -> SkytextError | OSError:
    """Convert a failure of the cluster, or of our code on it, to an error for the caller.

    Disk errors are returned unchanged: the caller knows the path of the table.
    """
    cause = getattr(error, "cause", None)
    # Ray combines our exception with its own traceback in one object.
    if isinstance(error, RayTaskError) and isinstance(cause, SkytextError):
        # Our messages are one line. Ray appended the rest.
        return type(cause)(str(cause).partition("\n")[0])
    cause = cause or error
    text = str(cause.args[0]) if cause.args else ""
    if isinstance(cause, OSError) and disk_failure(cause, "") is not None:
        return cause
    return JobError(
        f"the job stopped: {type(cause).__name__}: {text.partition(chr(10))[0]} (committed work is "
        f"kept; run the same command again to continue; details are in the logs under {ray_logs()})"
    )


def ray_logs() -> str:
    """Return the log folder of the current Ray, the same on each node."""
    node = ray._private.worker._global_node
    if node is None:
        return "/tmp/ray/session_latest/logs"
    # The path without the link, which is removed at the end of the run.
    return os.path.realpath(str(node.get_logs_dir_path()))
