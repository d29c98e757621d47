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
"""A system setting of Ray: the number of idle worker processes that Ray keeps. The default of Ray
is the number of CPUs. Ray ends all other idle worker processes after one second, and the next task
must then start a new process. With the default on a machine with two CPUs, every commit took one to
two seconds longer."""


@contextmanager
def ray_cluster(address: str | None, config: Config) -> Iterator[None]:
    """Join the cluster at ``address`` or ``RAY_ADDRESS``. If neither is set, start a local Ray.

    This is a context manager. The code in the ``with`` block uses Ray. If Ray was already
    initialised in this process, this Ray is used, and it continues to run after the block. If this
    function starts a local Ray, the local Ray ends when the block ends.

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
    # Ray prints messages of the cluster on stdout, for example the last log lines of a lost node.
    # Redirect these messages to stderr, because stdout contains the result of the command.
    with (
        contextlib.redirect_stdout(sys.stderr),
        _joined(address) if address else local_ray(config),
    ):
        yield


class _DriverPath(JobConfig):
    """A job configuration that sets the import path of the workers to the path of this process.

    Without it, Ray adds the working directory at the start of the workers' import path, even if the
    working directory is not on the import path of this process. A file ``random.py`` in the working
    directory would then crash every worker.
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
            # If the address starts with ray://, the Ray client server creates the configuration.
            # The server may not have this class.
            job_config=None if "://" in address else _DriverPath(),
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        message = " ".join(str(error).split())[:300]
        if "RAY_AUTH_MODE" not in os.environ:
            # If ~/.ray contains a token, `ray start` requires clients to send this token. But a
            # client sends the token only if RAY_AUTH_MODE is set.
            message += " (if the cluster requires a token, set RAY_AUTH_MODE=token)"
        raise JobError(f"cannot use the Ray cluster at {address}: {message}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise an error if no process listens at the address. Ray itself would retry for many minutes.

    Raises:
        ConfigError: no process listens at the address, or the address is a dashboard address.
    """
    if address.startswith(("http://", "https://")):
        raise ConfigError(
            f"{address} is an address for `ray job submit`: give the address of the cluster as "
            "HOST:6379, or leave out --ray-address and RAY_ADDRESS to start a local Ray"
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
    """Configure Ray Data so that it writes the details of a failure only to its log files.

    The command prints its own error message about the failure.
    """
    import ray.data  # noqa: F401  (installs the handlers)

    for handler in logging.getLogger("ray.data").handlers:
        if type(handler).__name__ != "SessionFileHandler":
            handler.setLevel(logging.CRITICAL)


@contextmanager
def _held_back_stderr() -> Iterator[None]:
    """Collect the stderr output of the block. Print the output only if the block raises an error.

    The block starts Ray. If RAY_BACKEND_LOG_LEVEL is set, Ray's C++ code prints a line about this
    variable. Users do not need this line.
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
    """Start a local Ray without console output. The local Ray ends when the block ends.

    When Ray starts, it installs its own signal handlers. So callers must install their own signal
    handlers inside the block.

    Args:
        config: the settings. They contain the size of the object store.
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
        # Lance warns about forks. But a fork is a risk only if the child process uses Lance. The
        # child processes of Ray immediately execute another program.
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
    """Convert an error of Ray to an error for the caller.

    The cause of the error is Ray itself or the code of skytext on the cluster. A disk error is
    returned unchanged, because only the caller can add the path of the table to the message.
    """
    cause = getattr(error, "cause", None)
    # Ray combines the exception of skytext and the traceback of Ray in one object.
    if isinstance(error, RayTaskError) and isinstance(cause, SkytextError):
        # A message of skytext has one line. Ray has appended the other lines.
        return type(cause)(str(cause).partition("\n")[0])
    cause = cause or error
    text = str(cause.args[0]) if cause.args else ""
    if isinstance(cause, OSError) and disk_failure(cause, "") is not None:
        return cause
    return JobError(
        f"the job stopped: {type(cause).__name__}: {text.partition(chr(10))[0]} (committed work is "
        "kept. To continue, run the same command again. For details, see the logs under "
        f"{ray_logs()})"
    )


def ray_logs() -> str:
    """Return the path of Ray's log folder. The path is the same on every node."""
    node = ray._private.worker._global_node
    if node is None:
        return "/tmp/ray/session_latest/logs"
    # The path contains a symbolic link that is deleted at the end of the run. Resolve the link, so
    # that the path stays valid.
    return os.path.realpath(str(node.get_logs_dir_path()))
