"""Start or join Ray, and check that a plan fits it before anything is started."""

from __future__ import annotations

import logging
import os
import socket
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from skytext.config.environment import prepare_libraries
from skytext.config.settings import Config
from skytext.errors import CapacityError, ConfigError, JobError, SkytextError

_DEFAULT_OBJECT_STORE_BYTES = 512 * 2**20
_CONNECT_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Resources:
    """What a cluster offers, or a plan asks for."""

    num_cpus: float
    num_gpus: float


@contextmanager
def ray_cluster(address: str | None, config: Config) -> Iterator[Resources]:
    """Join the cluster at ``address`` (or ``RAY_ADDRESS``); without one, start a local Ray.

    A Ray that is already initialised in this process is used as it is and left running. A local
    Ray ends with the block.

    Raises:
        ConfigError: nobody answers at the address.
        JobError: the cluster refuses, or a local Ray cannot start.
    """
    if ray.is_initialized():
        yield cluster_resources()
        return
    address = address or os.environ.get("RAY_ADDRESS")
    if address:
        _check_reachable(address)
    prepare_libraries()
    _quiet_ray_data()
    try:
        if address:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        else:
            start_local(config)
    except (ConnectionError, ValueError, RuntimeError) as error:
        where = f"the Ray cluster at {address}" if address else "a local Ray"
        message = " ".join(str(error).split())[:300]
        raise JobError(f"cannot use {where}: {message}") from error
    try:
        yield cluster_resources()
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Refuse an address where nobody listens; Ray itself would go on trying for many minutes.

    Raises:
        ConfigError: nobody answers.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
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


def start_local(config: Config, num_cpus: int | None = None) -> None:
    """Start a Ray on this machine, without a word where it starts.

    It takes the signals that end a process for itself: whoever handles them does so afterwards.

    Args:
        config: the size of its object store.
        num_cpus: what it offers; None for the machine's cores.
    """
    with _held_back_stderr(), warnings.catch_warnings():
        # Ray forks only to execute its own programs right away, which Lance survives.
        warnings.filterwarnings("ignore", message="lance is not fork-safe")
        ray.init(
            address="local",
            num_cpus=num_cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=config.job.object_store_bytes or _DEFAULT_OBJECT_STORE_BYTES,
        )


def cluster_resources() -> Resources:
    """Return what the cluster that this process is connected to offers in all."""
    total = ray.cluster_resources()
    return Resources(float(total.get("CPU", 0)), float(total.get("GPU", 0)))


def gpus_per_engine(config: Config, available: Resources) -> float:
    """Return the GPUs that each engine asks for."""
    engine = config.caption.engine
    if engine.num_gpus_per_engine is not None:
        return engine.num_gpus_per_engine
    return float(engine.tensor_parallel_size) if available.num_gpus > 0 else 0.0


def check_capacity(config: Config, available: Resources) -> None:
    """Refuse a plan that the cluster can never run; Ray would wait for ever, silently.

    Actors hold their resources for good; beside them one reading and one writing task must fit.

    Raises:
        CapacityError: says what is asked for, what there is, and which settings to lower.
    """
    engine, embed, job = config.caption.engine, config.embed, config.job
    cpus = (
        engine.num_engines * engine.num_cpus_per_engine
        + embed.num_actors * embed.num_cpus_per_actor
        + job.read_cpus
        + job.write_cpus
    )
    gpus = (
        engine.num_engines * gpus_per_engine(config, available)
        + embed.num_actors * embed.num_gpus_per_actor
    )
    if cpus > available.num_cpus or gpus > available.num_gpus:
        raise CapacityError(
            f"the plan needs {cpus:g} CPUs and {gpus:g} GPUs, the cluster has "
            f"{available.num_cpus:g} and {available.num_gpus:g}: lower caption.engine.num_engines "
            f"({engine.num_engines}), caption.engine.num_cpus_per_engine "
            f"({engine.num_cpus_per_engine:g}), num_gpus_per_engine or embed.num_actors "
            f"({embed.num_actors}), or use a larger cluster (--ray-address)"
        )


def result_of(reference: Any) -> Any:
    """Wait for a task of ours and return what it returned.

    Raises:
        SkytextError: the one that the task raised, as it was, or a `JobError` that says what the
            cluster met.
    """
    try:
        return ray.get(reference)
    except RayError as error:
        raise job_error(error) from error


def job_error(error: RayError) -> SkytextError:
    """Return what a failure of the cluster, or of our code on it, means to the caller."""
    cause = getattr(error, "cause", None)
    # Ray hands an exception of ours back as itself and a traceback of its own in one.
    if isinstance(error, RayTaskError) and isinstance(cause, SkytextError):
        # Our messages are one line; what follows was added by Ray.
        return type(cause)(str(cause).partition("\n")[0])
    cause = cause or error
    text = str(cause.args[0]) if cause.args else ""
    return JobError(
        f"the job stopped: {type(cause).__name__}: {text.partition(chr(10))[0]} (what is committed "
        "stays; run the same command again to go on; the logs under /tmp/ray/session_latest say "
        "more)"
    )
