from __future__ import annotations

import os
import re
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.versions.promote_rollback import promote, promotions, start_canary
from tests.cli.conftest import Skytext
from tests.service.replicas.test_deploy import free_port, until
from tests.service.tables import embed_again, make_rows, make_served_table, write_table
from tests.table.rows import location

ROOT = Path(__file__).parents[2]


def test_keys_are_made_listed_and_revoked(skytext: Skytext, tmp_path: Path) -> None:
    make_served_table(tmp_path)
    table = tmp_path / "table"
    assert skytext("keys", "list", table).out == "no keys\n"
    made = skytext("keys", "add", table, "map team")
    assert re.fullmatch(r"skytext_[0-9a-f]{12}_[\w-]{43}\n", made.out)
    assert skytext("keys", "add", table, "ops", "--right", "admin").status == 0
    listed = skytext("keys", "list", table).out.splitlines()
    assert [line.split("  ")[:2] for line in listed] == [["map team", "search"], ["ops", "admin"]]
    assert made.out.strip().rpartition("_")[2] not in "".join(listed)
    assert skytext("keys", "revoke", table, "map team").status == 0
    assert len(skytext("keys", "list", table).out.splitlines()) == 1
    assert skytext("keys", "revoke", table, "map team").status == 2
    assert skytext("keys", "add", table, "x", "--right", "all").status == 2


def test_wrong_calls_of_serve_start_nothing(skytext: Skytext, tmp_path: Path) -> None:
    make_served_table(tmp_path)
    table = tmp_path / "table"
    assert "there is no table" in skytext("serve", tmp_path / "none").err
    assert "has no API key" in skytext("serve", table, "--host", "0.0.0.0").err
    called = skytext("serve", table, "--host", "0.0.0.0", "--no-keys")
    assert called.status == 2
    assert "other machines could search" in called.err
    taken = skytext("serve", table, "--host", "203.0.113.1", "--keys")
    assert taken.status == 2
    more = location(tmp_path / "more")
    write_table(more, [make_rows(tmp_path / "archive" / "a.tar")["river.jpg"]])
    assert "is named twice" in skytext("serve", table, table).err
    assert "needs a single table" in skytext("serve", table, more.uri, "--version", 1).err
    embed_again(more, "fake:dim=24")
    differ = skytext("serve", table, more.uri)
    assert differ.status == 2
    assert "Search each table alone" in differ.err
    assert len(differ.err.splitlines()) == 1


@pytest.fixture
def asked_of_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """Start a proxy that does not answer, and set all variables for proxies to its address. Yield
    the requests that the proxy receives."""
    asked: list[bytes] = []

    class Refusal(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            asked.append(self.request.recv(200))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Refusal) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name in ("no_proxy", "no_grpc_proxy"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)
        for name in ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_address[1]}")
            monkeypatch.setenv(name.upper(), f"http://127.0.0.1:{server.server_address[1]}")
        yield asked
        server.shutdown()


@pytest.fixture
def shadows(tmp_path: Path) -> Path:
    """Make a folder of modules with the names of standard modules. An import of these modules
    fails."""
    folder = tmp_path / "shadows"
    folder.mkdir()
    for name in sys.stdlib_module_names:
        (folder / f"{name}.py").write_text("raise ImportError('of the working directory')\n")
    return folder


def check_canary(http: httpx.Client, table: TableLocation) -> None:
    """Check that a canary answers some searches, and then becomes live."""
    last = ImagesTable.open(table).version
    promote(table, last - 1)
    start_canary(table, last, 0.5, 0.2)
    seen: set[int] = set()

    def both_answer() -> bool:
        answer = http.post("/v1/search", json={"text": f"a river {time.monotonic()}", "k": 1})
        assert answer.status_code == 200, answer.text
        seen.add(answer.json()["table_version"])
        return seen >= {last - 1, last}

    until(both_answer, 60)
    until(lambda: promotions(table, 1)[0].action == "promote", 60)
    ended = promotions(table, 1)[0]
    assert (ended.version, ended.previous_version) == (last, last - 1)
    assert ended.why.startswith("canary passed: ")


@pytest.mark.ray
def test_serve_answers_and_ends_within_15_seconds_of_a_signal(
    tmp_path: Path, asked_of_proxy: list[bytes], shadows: Path
) -> None:
    """Test the command with an HTTP proxy, and with a ``random.py`` in the working directory."""
    make_served_table(tmp_path, num_chars=50_000)
    table = TableLocation.parse(str(tmp_path / "table")).uri
    port = free_port()
    command = [
        # With -P, the module path does not contain the working directory. The installed command has
        # the same module path.
        *(sys.executable, "-P", "-c", "from skytext.cli import main; main()", "serve", table),
        *("--port", str(port), "--archive-root", str(tmp_path / "archive")),
    ]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'lib'}:{ROOT}"}
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(
            command, env=environment, stderr=output, stdout=output, cwd=shadows
        )
    http = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30)
    try:

        def ready() -> bool:
            assert process.poll() is None, (tmp_path / "output").read_text()
            try:
                return http.get("/readyz").status_code == 200
            except httpx.TransportError:
                return False

        until(ready, 180)
        assert http.post("/v1/search", json={"text": "a river"}).status_code == 200
        # The answer is larger than gRPC's default limit for a message between the deployments.
        many = http.post("/v1/search/batch", json={"searches": [{"text": "a river"}] * 32})
        assert many.status_code == 200
        assert len(many.content) > 5_000_000
        check_canary(http, TableLocation.parse(table))
        started = [process.pid, *(p.pid for p in psutil.Process(process.pid).children(True))]
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, (tmp_path / "output").read_text()
        assert time.monotonic() - asked < 15
        assert asked_of_proxy == []
    finally:
        process.kill()
        process.wait()
        http.close()
    shown = (tmp_path / "output").read_text()
    assert f"http://127.0.0.1:{port}/" in shown
    assert "API keys are not required: every user of this machine" in shown
    assert "shutting down" in shown
    assert "Traceback" not in shown
    until(lambda: not any(psutil.pid_exists(pid) for pid in started), 30)
