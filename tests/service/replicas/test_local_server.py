from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time

import pytest

from skytext.config.settings import Config
from skytext.errors import CallError, ConfigError, TableError
from skytext.service.access.api_keys import KeyStore, Right
from skytext.service.replicas.listening_socket import bound
from skytext.service.replicas.local_server import _Stop, decide_access, find_port
from skytext.service.served_tables import TableSet
from skytext.service.telemetry.node_metrics import merge
from skytext.table.location import TableLocation


def asks_for_keys(where: TableLocation, host: str, keys: bool | None) -> bool:
    tables = TableSet.parse([where.uri])
    return decide_access(tables, host, keys, Config()).service.access.require_keys is True


def test_keys_are_required_if_the_table_has_any(own: TableLocation) -> None:
    assert not asks_for_keys(own, "127.0.0.1", None)
    assert not asks_for_keys(own, "::1", None)
    KeyStore(own).add("a", Right.SEARCH)
    assert asks_for_keys(own, "127.0.0.1", None)
    assert asks_for_keys(own, "0.0.0.0", None)
    assert not asks_for_keys(own, "localhost", False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "search.example.org", ""])
def test_other_machines_need_a_key(own: TableLocation, host: str) -> None:
    KeyStore(own).add("a", Right.SEARCH)
    with pytest.raises(ConfigError, match="without API keys, other machines could search"):
        asks_for_keys(own, host, False)


def test_requiring_keys_needs_at_least_one_key(own: TableLocation) -> None:
    for host, keys in (("0.0.0.0", None), ("127.0.0.1", True)):
        with pytest.raises(ConfigError, match="skytext keys add"):
            asks_for_keys(own, host, keys)


def test_a_missing_table_is_reported_before_the_start(own: TableLocation) -> None:
    with pytest.raises(TableError):
        asks_for_keys(TableLocation.parse(f"{own.uri}-none"), "127.0.0.1", None)


def test_a_port_in_use_is_reported_before_the_start() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(CallError, match="another port with --port"):
            bound("127.0.0.1", taken.getsockname()[1])


def test_measurements_of_nodes_are_put_together_by_family() -> None:
    def node(name: str) -> str:
        return (
            "# HELP ray_skytext_requests_total Requests.\n"
            "# TYPE ray_skytext_requests_total counter\n"
            f'ray_skytext_requests_total{{WorkerId="{name}",otel_scope_name="x",route="a"}} 2.0\n'
            "# HELP ray_other_total Other.\n"
            "# TYPE ray_other_total counter\n"
            "ray_other_total 1.0\n"
        )

    assert merge([node("1"), node("2")]) == [
        "# HELP ray_skytext_requests_total Requests.",
        "# TYPE ray_skytext_requests_total counter",
        'ray_skytext_requests_total{WorkerId="1",route="a"} 2.0',
        'ray_skytext_requests_total{WorkerId="2",route="a"} 2.0',
    ]


def test_another_port_is_found_where_the_wanted_one_is_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        wanted = taken.getsockname()[1]
        found = find_port("127.0.0.1", wanted)
        assert found not in (0, wanted)
        bound("127.0.0.1", found).close()
    assert find_port("127.0.0.1", found) == found
    with pytest.raises(CallError):
        find_port("192.0.2.1", wanted)


_BUSY = """
import hashlib, signal
from skytext.service.replicas import local_server

local_server._EXIT_AFTER_S = 0.5
stop = local_server._Stop()
signal.signal(signal.SIGTERM, lambda *_: None)  # as Ray does while it starts
print("installed", flush=True)
hashlib.pbkdf2_hmac("sha256", b"", b"", 200_000_000)
"""


def test_the_seconds_until_the_end_are_counted_from_the_signal() -> None:
    """The limit starts at the signal, not at the end of the main thread's work."""
    command = [sys.executable, "-c", _BUSY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "installed\n"
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(30) == 0
        finally:
            process.kill()
        assert time.monotonic() - asked < 10


def test_signals_are_left_to_those_who_had_them_before() -> None:
    before = signal.getsignal(signal.SIGTERM)
    stop = _Stop()
    stop.install()
    try:
        assert not stop.asked.is_set()
    finally:
        stop.uninstall()
    assert signal.getsignal(signal.SIGTERM) is before
    assert signal.set_wakeup_fd(-1) == -1
