"""``skytext serve``: run the whole application in a local Ray instance on this machine."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn

from skytext.config.settings import Config
from skytext.errors import CallError, ConfigError, JobError
from skytext.run.cluster.cluster import local_ray, ray_logs
from skytext.run.cluster.ray_temp_dir import short_temp_dir
from skytext.service.access.api_keys import KeyStore
from skytext.service.archive_images import archive_roots
from skytext.service.http.web_page import FOLDER
from skytext.service.replicas.listening_socket import bound, listening
from skytext.service.served_tables import TableSet

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_EXIT_AFTER_S = 14.0
"""After a signal, the process exits within this time. An orchestrator would kill the process 15 or
30 s after the signal."""
_NUM_CPUS = 2
"""Ray is started with at least this number of CPUs, even if the machine has only one core. The
deployments together need this number of CPUs."""
# Ray and its workers read these environment variables when they start. docs/guides/serving.md lists
# the variables for clusters.
_SERVE_ENVIRONMENT = {
    # Do not write Ray Serve's log to stderr. The service writes a log line for each request.
    "RAY_SERVE_LOG_TO_STDERR": "0",
    # Deployments call each other over gRPC. This saves a sixth of the CPU time per request,
    # compared with Ray's own calls. By default gRPC refuses messages of more than 4 MB.
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(2**31 - 1),
}
# These environment variables are for Ray's workers. Do not set these variables in this process.
# This process calls the ingress through a deployment handle, and the handle needs its own event
# loop here. In a replica, one event loop is enough, because no code blocks the event loop. A second
# event loop would need thread switches, and thread switches cost time.
_WORKER_ENVIRONMENT = {
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    # By default, the controller of Ray Serve checks for changes ten times per second. This uses a
    # twentieth of a CPU core. Two checks per second are enough here.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
}


def decide_access(tables: TableSet, host: str, keys: bool | None, config: Config) -> Config:
    """Decide whether API keys are required, and return the settings with this decision.

    Args:
        tables: the served tables. The keys of the first table are used.
        host: the address to listen on.
        keys: true if keys are required, false if not. None means that keys are required as soon as
            the first table has a key, or if other machines can reach the address.
        config: the settings.

    Raises:
        ConfigError: other machines could search without a key. Or a key is required, but the table
            has no key. Or a version is given, and there are several tables.
        TableError: a table does not exist. Or the vectors of the tables were made with different
            models.
        AddressError: an archive root is not a valid address.
    """
    tables.open_served(config.service.version)
    location = tables.locations[0]
    num_keys = len(KeyStore(location).list())
    local = _is_loopback(host)
    wanted = keys if keys is not None else (num_keys > 0 or not local)
    if not wanted and not local:
        raise ConfigError(
            f"without API keys, other machines could search at {host}: listen on 127.0.0.1, or "
            "omit --no-keys"
        )
    if wanted and num_keys == 0:
        raise ConfigError(
            f"{location.uri} has no API key, so no client could search. To create a key, run: "
            f"skytext keys add {location.uri} NAME"
        )
    # A key that is added later must protect the running service.
    required = "auto" if keys is None and not wanted else wanted
    access = config.service.access.model_copy(update={"require_keys": required})
    roots = archive_roots(config.service.archive_roots)
    service = config.service.model_copy(update={"access": access, "archive_roots": roots})
    return config.model_copy(update={"service": service})


def serve_here(
    tables: TableSet, host: str, port: int, config: Config, say: Callable[[str], None]
) -> NoReturn:
    """Serve tables until this process receives a signal. Then exit the process with status 0.

    Args:
        tables: the served tables.
        host: the address to listen on.
        port: the port to listen on.
        config: the settings that `decide_access` returned.
        say: a function that prints a message for the user.

    Raises:
        CallError: the service cannot listen on the address.
        JobError: Ray or a replica does not start.
    """
    with short_temp_dir(), listening(host, port) as listener, _local_serve(config) as stop:
        from ray import serve

        from skytext.service.replicas.deployments import APPLICATION, build_application

        try:
            ingress = serve.run(
                build_application(tables, config, str(listener)),
                name=APPLICATION,
                route_prefix=None,
                logging_config={
                    "encoding": "JSON",
                    "enable_access_log": False,
                    "log_level": "WARNING",
                },
            )
        except RuntimeError as error:
            message = " ".join(str(error).split())[:300]
            raise JobError(
                f"the service did not start: {message}. See the logs in {ray_logs()}"
            ) from error
        for line in _start_lines(host, port, config):
            say(line)
        while not stop.asked.wait(1.0):
            pass
        say("shutting down: the service finishes running requests and refuses new requests")
        _drain(ingress, config.service.drain_s, say)
    # Everything is closed now. Exit without the normal clean-up of the Python interpreter. After
    # Ray was imported, this clean-up takes seconds on a busy machine, and `_EXIT_AFTER_S` could not
    # interrupt it.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _drain(ingress: Any, seconds: float, say: Callable[[str], None]) -> None:
    """Refuse new requests with 503, wait until running requests end, and stop the replicas."""
    from grpc import RpcError
    from ray import serve
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    from skytext.service.replicas.deployments import APPLICATION

    try:
        ingress.drain.remote(seconds).result(timeout_s=seconds + 1)
        serve.delete(APPLICATION)
    except (RayError, RayServeException, RpcError, RuntimeError, TimeoutError) as error:
        # Do not raise the error, because this process and the local Ray instance end now anyway.
        say(f"the service did not shut down cleanly: {type(error).__name__}: {error}")


def _start_lines(host: str, port: int, config: Config) -> Iterator[str]:
    shown = f"[{host}]" if ":" in host else host
    yield f"serving http://{shown}:{port}/ (to stop, press Ctrl-C)"
    if (FOLDER / "index.html").is_file():
        yield f"web page: http://{shown}:{port}/"
    yield f"API description: http://{shown}:{port}/openapi.json"
    if config.service.access.require_keys is not True:
        yield (
            "API keys are not required: every user of this machine can search, administer the "
            "service, and see the images"
        )
    if not config.service.archive_roots:
        yield "images cannot be shown: to show images, give the archive with --archive-root"
    yield f"logs: {ray_logs()}/serve (requests: replica_skytext_ingress_….log)"


class _Stop:
    """Sets an event when SIGINT or SIGTERM arrives. Exits the process 14 s later, with status 0.

    A separate thread receives the signals, because the main thread may be in a Ray call. Python
    would run signal handlers only after the Ray call returns. The time limit would then start too
    late.

    Attributes:
        asked: the event. It is set after a signal arrived.
    """

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._before = {number: signal.getsignal(number) for number in _SIGNALS}
        self._heard, self._signalled = socket.socketpair()
        self._signalled.setblocking(False)
        self._wakeup_before = signal.set_wakeup_fd(
            self._signalled.fileno(), warn_on_full_buffer=False
        )
        threading.Thread(target=self._listen, name="stop", daemon=True).start()

    def install(self) -> None:
        """Install the signal handlers. Call this again if other code has replaced the handlers."""
        for number in _SIGNALS:
            signal.signal(number, _go_on)

    def uninstall(self) -> None:
        """Restore the handlers that were installed before this object was created."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        self._signalled.close()

    def _listen(self) -> None:
        with self._heard:
            while numbers := self._heard.recv(64):
                if set(numbers) & set(_SIGNALS):
                    self.asked.set()
                    time.sleep(_EXIT_AFTER_S)
                    os._exit(0)


def _go_on(*_: object) -> None:
    """Do nothing. If a Python handler is installed, the signal does not end the process."""


@contextmanager
def _local_serve(config: Config) -> Iterator[_Stop]:
    """Start a local Ray instance with Ray Serve. Stop both at the end of the block."""
    for name, value in _SERVE_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from ray import serve  # reads the environment variables when it is imported

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    stop = _Stop()
    stop.install()
    try:
        with ExitStack() as until_the_end:
            with _environment(_WORKER_ENVIRONMENT):
                # When Ray stops, Ray Serve stops too.
                until_the_end.enter_context(local_ray(config, max(_NUM_CPUS, os.cpu_count() or 1)))
            stop.install()
            serve.start(proxy_location="Disabled")
            yield stop
    finally:
        stop.uninstall()


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the processes that the block starts.

    If a variable is already set, do not change it.
    """
    new = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            del os.environ[name]


def find_port(host: str, wanted: int) -> int:
    """Return the wanted port if it is free. Otherwise return another port that is free.

    Raises:
        CallError: this machine does not have the address ``host``.
    """
    try:
        made = bound(host, wanted)
    except CallError:
        made = bound(host, 0)
    with made:
        return int(made.getsockname()[1])


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
