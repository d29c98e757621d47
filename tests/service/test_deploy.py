"""The application on a real Ray, as ``serve deploy serve/config.yaml`` puts it there."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from skytext.service.keys import KeyStore, Right
from skytext.sources.base import image_id
from skytext.table.images import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.promotion import promote, rollback
from tests.service.tables import encoded, make_served_table

ROOT = Path(__file__).parents[2]
RIVER = image_id("aerial", "a.tar", "river.jpg", 0)

pytestmark = pytest.mark.ray


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def deployed_config(table: Path, port: int) -> dict[str, Any]:
    """The file as it stands, but for the places that everybody has to name."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "serve" / "config.yaml").read_text())
    config["http_options"] |= {"host": "127.0.0.1", "port": port}
    (application,) = config["applications"]
    application["args"]["table"] = str(table)
    service = application["args"]["config"]["service"]
    service |= {"archive_roots": [str(table.parent / "archive")], "poll_interval_s": 0.2}
    return config


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.2)


class Deployed:
    """A deployed application and its keys."""

    def __init__(self, table: Path, port: int) -> None:
        self.location = TableLocation.parse(str(table))
        store = KeyStore(self.location)
        self.url = f"http://127.0.0.1:{port}"
        self.search_key = store.add("search", Right.SEARCH)
        self.admin_key = store.add("admin", Right.ADMIN)

    def client(self, key: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=60)


@pytest.fixture(scope="module")
def deployed(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    from ray import serve
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ServeDeploySchema

    folder = tmp_path_factory.mktemp("deploy")
    first = make_served_table(folder).version - 1
    promote(TableLocation.parse(str(folder / "table")), first)
    port = free_port()
    config = deployed_config(folder / "table", port)
    served = Deployed(folder / "table", port)
    serve.start(proxy_location="HeadOnly", http_options=config["http_options"])
    # What the REST endpoint behind `serve deploy` does with the file.
    _get_global_client().deploy_apps(ServeDeploySchema(**config))
    with served.client(served.search_key) as http:

        def ready() -> bool:
            try:
                return http.get("/readyz").status_code == 200
            except httpx.TransportError:
                return False

        until(ready, 120)
    yield served
    serve.shutdown()


def test_a_deployed_service_answers(deployed: Deployed) -> None:
    with deployed.client(deployed.search_key) as http:
        found = http.post("/v1/search", json={"text": "a brown river", "k": 1})
        assert found.status_code == 200, found.text
        assert found.json()["hits"][0]["image_id"] == RIVER
        assert http.get(f"/v1/images/{RIVER}/bytes").content == encoded("brown")
        wrong = http.post("/v1/search", json={"text": "a", "filter": "nothing = 1"})
        assert wrong.status_code == 422
        assert "there is no column" in wrong.json()["detail"]
        assert http.post("/v1/search", content=b"x" * 70_000).status_code == 413
        assert http.get("/metrics").status_code == 403
    with httpx.Client(base_url=deployed.url, trust_env=False) as nobody:
        assert nobody.get("/v1/table").status_code == 401


def test_promotions_under_load_fail_no_request(deployed: Deployed) -> None:
    last = ImagesTable.open(deployed.location).version
    counts = {last - 1: 2, last: 4}
    done = threading.Event()

    def ask() -> list[int]:
        versions = []
        with deployed.client(deployed.search_key) as http:
            while not done.is_set():
                two = {"searches": [{"text": "a river", "k": 9}, {"text": "ships", "k": 9}]}
                answer = http.post("/v1/search/batch", json=two)
                assert answer.status_code == 200, answer.text
                answers = answer.json()["answers"]
                (version,) = {a["table_version"] for a in answers}
                assert [len(a["hits"]) for a in answers] == [counts[version]] * 2
                versions.append(version)
        return versions

    def served() -> int:
        with deployed.client(deployed.search_key) as http:
            return int(http.post("/v1/search", json={"text": "a"}).json()["table_version"])

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        try:
            for _ in range(3):
                promote(deployed.location, last)
                until(lambda: served() == last, 10)
                rollback(deployed.location)
                until(lambda: served() == last - 1, 10)
        finally:
            done.set()
        seen = {version for future in asking for version in future.result()}
    assert seen == {last - 1, last}


def test_a_replica_that_dies_is_replaced(deployed: Deployed) -> None:
    # Of this Ray alone: others may run on this machine.
    (replica,) = [
        process
        for process in psutil.Process().children(recursive=True)
        if process.cmdline()[:1] == ["ray::ServeReplica:skytext:search"]
    ]
    replica.kill()
    statuses = []
    with deployed.client(deployed.search_key) as http:

        def answers() -> bool:
            statuses.append(http.post("/v1/search", json={"text": "a"}).status_code)
            return statuses[-1] == 200

        until(answers, 60)
    assert set(statuses) <= {200, 503}


def test_measurements_of_all_replicas_come_together(deployed: Deployed) -> None:
    with deployed.client(deployed.admin_key) as http:

        def told() -> bool:
            text = http.get("/metrics").text
            return "ray_skytext_requests_total{" in text and "ray_skytext_embed_batch_size" in text

        until(told, 60)
        text = http.get("/metrics").text
    assert 'skytext_node_scraped{node="' in text
    heads = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(heads) == len(set(heads))
