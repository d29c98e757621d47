"""Test the application on a real Ray. The application is started as by ``serve deploy
serve/config.yaml``.

The application serves two tables as one table. ``test_serve_command.py`` tests a single table.
"""

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

from skytext.archive.shards import image_id
from skytext.service.access.api_keys import KeyStore, Right
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.versions.promote_rollback import promote, rollback
from tests.service.tables import encoded, make_rows, make_served_table, write_table
from tests.table.rows import location

ROOT = Path(__file__).parents[3]
RIVER, HARBOUR = (image_id("aerial", "a.tar", name, 0) for name in ("river.jpg", "harbour.jpg"))

pytestmark = pytest.mark.ray


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def whole_config() -> dict[str, Any]:
    """Return the content of serve/config.yaml, including the captioner, which is commented out in
    the file."""
    text = (ROOT / "serve" / "config.yaml").read_text(encoding="utf-8")
    head, mark, tail = text.partition("      # - name: captioning\n")
    assert mark
    uncommented = (mark + tail).replace("      # ", "      ")
    config: dict[str, Any] = yaml.safe_load(head + uncommented)
    return config


def deployed_config(table: Path, port: int) -> dict[str, Any]:
    """Return the content of serve/config.yaml with the addresses of the test and two ingress
    replicas."""
    config = whole_config()
    config["http_options"] |= {"host": "127.0.0.1", "port": port}
    (application,) = config["applications"]
    application["args"]["table"] = str(table)
    settings = application["args"]["config"]
    settings["caption"] = {"model": "fake"}
    settings["service"] |= {
        "archive_roots": [str(table.parent / "archive")],
        "poll_interval_s": 0.2,
        "captioner": True,
        # Avoid refusals with these limits, because these tests do not test refusals under load and
        # the machine may be slow.
        "limits": {"max_running": 8, "max_wait_s": 5.0},
    }
    of_name = {one["name"]: one for one in application["deployments"]}
    of_name["ingress"]["autoscaling_config"]["min_replicas"] = 2
    # The machine of the test has no GPU, and all deployments share two cores.
    of_name["captioning"]["ray_actor_options"] = {"num_cpus": 0.1}
    return config


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.2)


class Deployed:
    """A deployed application and its keys."""

    def __init__(self, table: Path | str, port: int) -> None:
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
    harbour = make_rows(folder / "archive" / "a.tar")["harbour.jpg"]
    write_table(location(folder / "more"), [harbour])
    port = free_port()
    config = deployed_config(folder / "table", port)
    config["applications"][0]["args"]["table"] = [str(folder / "table"), str(folder / "more")]
    served = Deployed(folder / "table", port)
    serve.start(proxy_location="HeadOnly", http_options=config["http_options"])
    # Deploy the file in the same way as the REST endpoint of `serve deploy`.
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
        assert found.json()["hits"][0]["table"] == "table"
        of_more = http.get(f"/v1/images/{HARBOUR}/bytes", params={"table": "more"})
        assert of_more.content == encoded("blue")
        assert [one["name"] for one in http.get("/v1/table").json()["tables"]] == ["table", "more"]
        assert http.get(f"/v1/images/{RIVER}/bytes").content == encoded("brown")
        wrong = http.post("/v1/search", json={"text": "a", "filter": "nothing = 1"})
        assert wrong.status_code == 422
        assert "there is no column" in wrong.json()["detail"]
        assert http.post("/v1/search", content=b"x" * 70_000).status_code == 413
        assert http.get("/metrics").status_code == 403
    with httpx.Client(base_url=deployed.url, trust_env=False) as without_key:
        assert without_key.get("/v1/table").status_code == 401


def test_promotions_under_load_fail_no_request(deployed: Deployed) -> None:
    last = ImagesTable.open(deployed.location).version
    other = ImagesTable.open(TableLocation(f"{Path(deployed.location.uri).parent}/more")).version
    counts = {f"{last - 1},{other}": 3, f"{last},{other}": 5}
    done = threading.Event()

    def ask() -> list[str]:
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
            versions = http.post("/v1/search", json={"text": "a"}).json()["table_versions"]
            return int(versions["table"])

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
    assert seen == set(counts)


def test_a_replica_that_dies_is_replaced(deployed: Deployed) -> None:
    # Select only processes of this Ray, because other Rays may run on this machine.
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


def test_an_uploaded_image_is_described_and_searched_for(deployed: Deployed) -> None:
    with deployed.client(deployed.search_key) as http:
        answer = http.post("/v1/search/image", files={"file": ("a.jpg", encoded("brown"))})
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["queries"]) == 5
        assert answer.json()["hits"]


_SCRAPED = "skytext_node_scraped{"


def counts(text: str, name: str, label: str) -> dict[str, float]:
    """Return the value of each series of a metric that has a label."""
    lines = (line.rpartition(" ") for line in text.splitlines())
    return {
        series: float(value)
        for series, _, value in lines
        if series.startswith(f"{name}{{") and label in series
    }


def test_measurements_of_all_replicas_come_together(deployed: Deployed) -> None:
    # Use the route for a row, because no other test in this file requests a row.
    name, label = "ray_skytext_requests_total", 'route="/v1/images/{image_id}"'
    num_requests, text = 0, ""
    seen: dict[str, float] = {}
    with deployed.client(deployed.admin_key) as http:

        def all_are_counted() -> bool:
            nonlocal num_requests, text
            text = http.get("/metrics").text
            if any(line.startswith(_SCRAPED) and line.endswith(" 0") for line in text.splitlines()):
                return False  # The service reports that the agent of the node was too slow.
            found = counts(text, name, label)
            assert all(found[series] >= value for series, value in seen.items()), "a count fell"
            seen.update(found)
            if len(found) < 2:  # The proxy chooses a replica for each request.
                num_requests += 10
                assert {http.get(f"/v1/images/{RIVER}").status_code for _ in range(10)} == {200}
            return len(found) == 2 and sum(found.values()) == num_requests

        # Check the text of the last answer. A new answer may come while the agent of the node is
        # too slow.
        until(all_are_counted, 300)
    assert "ray_skytext_embed_batch_size" in text
    assert 'skytext_node_scraped{node="' in text
    heads = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(heads) == len(set(heads))
