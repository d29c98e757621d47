"""Start a local Ray or join a Ray cluster, and translate the errors of Ray."""

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
from skytext.run.cluster.ray_temp_dir import short_temp_dir

_DEFAULT_OBJECT_STORE_BYTES = 512 * 2**20
_CONNECT_TIMEOUT_S = 10.0
KEEP_WORKERS = {"num_workers_soft_limit": 8}
"""A system setting of Ray: the number of idle workers that Ray keeps. Ray's default is the number
of CPUs. Ray ends all further idle workers after one second, and the next task must then start a new
process. With Ray's default on two CPUs, every commit took one to two seconds longer."""


@contextmanager
def ray_cluster(address: str | None, config: Config) -> Iterator[None]:
    """Join the cluster at ``address`` or ``RAY_ADDRESS``. If neither is set, start a local Ray.

    If Ray is already initialised in this process, the block uses it and leaves it running. A local
    Ray that this call started ends with the block.

    Raises:
        ConfigError: no Ray cluster responds at the address.
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
    # Ray prints messages of the cluster on stdout, such as the last log lines of a lost node. The
    # output of the command must not contain them.
    with (
        contextlib.redirect_stdout(sys.stderr),
        _joined(address) if address else local_ray(config),
    ):
        yield


class _DriverPath(JobConfig):
    """A job configuration that gives workers the import path of this process.

    Ray puts the working directory first on the import path of its workers, even if it is not on the
    import path of this process. A file ``random.py`` in that directory would crash every worker.
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
            # For an address with ray://, the Ray client server creates its own configuration. The
            # server may not have this class.
            job_config=None if "://" in address else _DriverPath(),
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        message = " ".join(str(error).split())[:300]
        if "RAY_AUTH_MODE" not in os.environ:
            # If ~/.ray contains a token, `ray start` requires this token from clients. But a client
            # sends no token unless RAY_AUTH_MODE is set.
            message += " (if the cluster requires a token, set RAY_AUTH_MODE=token)"
        raise JobError(f"cannot use the Ray cluster at {address}: {message}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Reject an address at which no process listens. Ray itself would retry for many minutes.

    Raises:
        ConfigError: no process listens at the address, or it is an address of the dashboard.
    """
    if address.startswith(("http://", "https://")):
        raise ConfigError(
            f"{address} is an address for `ray job submit`: give the cluster as HOST:6379, or "
            "leave out --ray-address and RAY_ADDRESS to start a local Ray"
        )
    host, _, port = address.removeprefix("ray://").rpartition(":")
    host = host.removeprefix("[").removesuffix("]")  # IPv6
    if not host or not port.isdigit():
        return  # Ray resolves values such as "auto", or fails immediately.
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise ConfigError(
            f"no Ray cluster responds at {address} ({error}): check --ray-address and RAY_ADDRESS, "
            "or leave both out to start a local Ray"
        ) from error


def _quiet_ray_data() -> None:
    """Make Ray Data write the details of a failure only to its log files.

    The command itself prints one line about the failure.
    """
    import ray.data  # noqa: F401  (installs the handlers)

    for handler in logging.getLogger("ray.data").handlers:
        if type(handler).__name__ != "SessionFileHandler":
            handler.setLevel(logging.CRITICAL)


@contextmanager
def _held_back_stderr() -> Iterator[None]:
    """Collect the stderr of Ray's C++ code while Ray starts; print it only if the start fails.

    If RAY_BACKEND_LOG_LEVEL is set, Ray's C++ code prints a line about this setting.
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
    """Start a Ray on this machine without console output, and end it with the block.

    Ray installs its own signal handlers at its start. A caller must install its own handlers after
    that.

    Args:
        config: contains the size of the object store.
        num_cpus: number of CPUs that Ray may use; None for all cores of the machine.

    Raises:
        ConfigError: no temporary folder is suitable for Ray's sockets.
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
        # A fork is a risk for Lance only if the child uses Lance. Ray's child processes immediately
        # execute another program.
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
    """Convert an error of the cluster, or of our code on the cluster, to an error for the caller.

    A disk error is returned unchanged, because only the caller can add the path of the table.
    """
    cause = getattr(error, "cause", None)
    # Ray combines our exception and Ray's traceback in one object.
    if isinstance(error, RayTaskError) and isinstance(cause, SkytextError):
        # Our messages have one line. Ray appended the other lines.
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
    """Return the path of Ray's log folder. The path is the same on every node."""
    node = ray._private.worker._global_node
    if node is None:
        return "/tmp/ray/session_latest/logs"
    # Resolve the link in the path, because the link is deleted at the end of the run.
    return os.path.realpath(str(node.get_logs_dir_path()))
