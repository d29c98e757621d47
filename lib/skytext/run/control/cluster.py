"""Start or join Ray, and say what its failures mean."""

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
"""Ray's own setting; its default is the number of CPUs. Ray ends idle workers beyond that number
after one second, and the next task has to start a new process. On two CPUs every commit waited one
to two seconds for that."""


@contextmanager
def ray_cluster(address: str | None, config: Config) -> Iterator[None]:
    """Join the cluster at ``address`` (or ``RAY_ADDRESS``); without one, start a local Ray.

    A Ray that is already initialised in this process is used as it is and left running. A local
    Ray ends with the block.

    Raises:
        ConfigError: nobody answers at the address.
        JobError: the cluster refuses, or a local Ray cannot start.
    """
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    if address:
        _check_reachable(address)
    prepare_libraries()
    _quiet_ray_data()
    # Ray prints on stdout what the cluster tells it, the last lines of a lost node's log, too.
    with (
        contextlib.redirect_stdout(sys.stderr),
        _joined(address) if address else local_ray(config),
    ):
        yield


class _DriverPath(JobConfig):
    """Lets workers import from where this process does.

    Ray puts the working directory before everything else on its workers' path, also where this
    process does not import from it: a ``random.py`` there would end every worker.
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
            # A server of Ray clients (ray://) makes its own, and may not have this class.
            job_config=None if "://" in address else _DriverPath(),
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        message = " ".join(str(error).split())[:300]
        if "RAY_AUTH_MODE" not in os.environ:
            # `ray start` wants the token of ~/.ray where there is one; a plain address sends none.
            message += " (does the cluster want a token? set RAY_AUTH_MODE=token)"
        raise JobError(f"cannot use the Ray cluster at {address}: {message}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Refuse an address where nobody listens; Ray itself would go on trying for many minutes.

    Raises:
        ConfigError: nobody answers.
    """
    if address.startswith(("http://", "https://")):
        raise ConfigError(
            f"{address} is for `ray job submit`: name the cluster as HOST:6379, or leave "
            "--ray-address and RAY_ADDRESS out for a local Ray"
        )
    host, _, port = address.removeprefix("ray://").rpartition(":")
    host = host.removeprefix("[").removesuffix("]")  # IPv6
    if not host or not port.isdigit():
        return  # "auto" and the like: Ray knows where to look, or says at once that it does not.
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise ConfigError(
            f"no Ray cluster answers at {address} ({error}): check --ray-address and RAY_ADDRESS, "
            "or leave both out for a local Ray"
        ) from error


def _quiet_ray_data() -> None:
    """Keep Ray Data's account of a failure in its log files: the command says it in one line."""
    import ray.data  # noqa: F401  (installs the handlers)

    for handler in logging.getLogger("ray.data").handlers:
        if type(handler).__name__ != "SessionFileHandler":
            handler.setLevel(logging.CRITICAL)


@contextmanager
def _held_back_stderr() -> Iterator[None]:
    """Hold back what Ray's C++ side says while it starts; show it where the start fails.

    Told by RAY_BACKEND_LOG_LEVEL to be quiet, it first announces that it was told.
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
    """Start a Ray on this machine, without a word where it starts, and end it with the block.

    It takes the signals that end a process for itself: whoever handles them does so afterwards.

    Args:
        config: the size of its object store.
        num_cpus: what it offers; None for the machine's cores.

    Raises:
        ConfigError: no temporary folder will do for its sockets.
        JobError: it does not start.
    """
    with short_temp_dir():
        try:
            _start_local(config, num_cpus)
            yield
        finally:
            ray.shutdown()


def _start_local(config: Config, num_cpus: int | None) -> None:
    with _held_back_stderr(), warnings.catch_warnings():
        # Ray forks only to execute its own programs right away, which Lance survives.
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
    """Return what a failure of the cluster, or of our code on it, means to the caller.

    What a disk refused comes as it is: whoever called knows the path of the table.
    """
    cause = getattr(error, "cause", None)
    # Ray hands an exception of ours back as itself and a traceback of its own in one.
    if isinstance(error, RayTaskError) and isinstance(cause, SkytextError):
        # Our messages are one line; what follows was added by Ray.
        return type(cause)(str(cause).partition("\n")[0])
    cause = cause or error
    text = str(cause.args[0]) if cause.args else ""
    if isinstance(cause, OSError) and disk_failure(cause, "") is not None:
        return cause
    return JobError(
        f"the job stopped: {type(cause).__name__}: {text.partition(chr(10))[0]} (what is committed "
        f"stays; run the same command again to go on; the logs under {ray_logs()} say more)"
    )


def ray_logs() -> str:
    """Return the folder of the logs of the Ray that is in use, on each of its nodes."""
    node = ray._private.worker._global_node
    if node is None:
        return "/tmp/ray/session_latest/logs"
    # Without the link that goes with the run.
    return os.path.realpath(str(node.get_logs_dir_path()))
