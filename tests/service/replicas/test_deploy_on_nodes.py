"""Test the application of ``serve/config.yaml`` on a head node and two worker nodes. The table is
on S3.

The proxies of all nodes share one port of this machine. The kernel gives each new connection to one
of the proxies, like a load balancer in front of the nodes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from skytext.search import Searcher
from skytext.service.access.api_keys import KeyStore, Right
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.versions.promote_rollback import promote, rollback
from tests.archives import upload
from tests.cluster import Nodes
from tests.faulty_proxy import FaultyProxy
from tests.proof.service_load import ANSWERED, Asked, is_normal, load, outcomes, say
from tests.service.replicas.test_deploy import RIVER, ROOT, Deployed, counts, free_port, until
from tests.service.tables import encoded, make_archive, make_rows, write_table

pytestmark = [pytest.mark.ray, pytest.mark.proof, pytest.mark.timeout(900)]

POLL_S, REFRESH_S = 0.5, 1.0
# Additional time in seconds, because a node may have only two cores and other work.
SLOW_S = 10.0
KEY_RATE = 150
NUM_CLIENTS, NUM_KEYS = 4, 10
NUM_KILLS = int(os.environ.get("SKYTEXT_NUM_LOST_NODES", "10"))
BACK_S = 30.0
PARTS = {f"ray::ServeReplica:skytext:{part}" for part in ("ingress", "embedding", "search")}
TWO = {"searches": [{"text": "a brown river", "k": 9}, {"text": "water in fields", "k": 9}]}
# This program deploys the file in the same way as the REST endpoint of `serve deploy`. It runs in a
# separate process.
_DEPLOY = """
import json, sys
import ray
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema
config = json.loads(sys.stdin.readline())
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
serve.start(proxy_location=config["proxy_location"], http_options=config["http_options"])
_get_global_client().deploy_apps(ServeDeploySchema(**config))
sys.stdin.read()
serve.shutdown()
"""


def config_of(table: str, archive: str, port: int, row_copies: Path) -> dict[str, Any]:
    """Return the content of serve/config.yaml with other addresses and times. Each worker node gets
    one replica of each deployment."""
    text = (ROOT / "serve" / "config.yaml").read_text(encoding="utf-8")
    config: dict[str, Any] = yaml.safe_load(text)
    config["http_options"] |= {"host": "127.0.0.1", "port": port}
    (application,) = config["applications"]
    application["args"]["table"] = table
    service = application["args"]["config"]["service"]
    service |= {"archive_roots": [archive], "row_copy_dir": str(row_copies)}
    service |= {"poll_interval_s": POLL_S, "limits": {"max_running": 8, "max_wait_s": 5.0}}
    service["access"] |= {"refresh_s": REFRESH_S, "key_rate": f"{KEY_RATE}/minute"}
    # A new key may be unknown for a moment. These refusals must not exceed the failure rate.
    service["access"] |= {"failure_rate": "1000/minute"}
    for deployment in application["deployments"]:
        deployment["max_replicas_per_node"] = 1
        deployment["autoscaling_config"] |= {"min_replicas": 2, "max_replicas": 2}
        # Only the worker nodes have GPUs.
        deployment["ray_actor_options"] |= {"num_cpus": 0.1, "num_gpus": 0.1}
    return config


@contextmanager
def deploying(nodes: Nodes, config: dict[str, Any]) -> Iterator[None]:
    arguments = [sys.executable, "-c", _DEPLOY, nodes.address]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        print(json.dumps(config), file=process.stdin, flush=True)
        try:
            yield
        finally:
            process.stdin.close()
            process.wait(60)


@pytest.fixture(scope="module")
def deployed(
    cluster: Nodes,
    proxy: FaultyProxy,
    s3_settings: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployed]:
    import boto3

    folder, port = tmp_path_factory.mktemp("nodes"), free_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (s3_settings | {"AWS_ENDPOINT_URL": proxy.url}).items():
            patch.setenv(name, value)
        local = make_archive(folder / "archive").parent
        archive = upload(boto3.session.Session().client("s3"), local, "served", "archive")
        table = TableLocation.parse("s3://served/table")
        promote(table, write_table(table, list(make_rows(archive).values())).version - 1)
        served = Deployed(table.uri, port)
        with deploying(cluster, config_of(table.uri, archive, port, folder / "rows")):
            until(lambda: both_nodes_have_all(cluster), 150)
            until(lambda: versions(served, served.search_key) == {first_version(served)}, 150)
            yield served


def both_nodes_have_all(nodes: Nodes) -> bool:
    return all(set(nodes.actors(place)) >= PARTS for place in (0, 1))


def last_version(served: Deployed) -> int:
    return ImagesTable.open(served.location).version


def first_version(served: Deployed) -> int:
    return last_version(served) - 1


def connecting_anew(served: Deployed, key: str) -> httpx.Client:
    """Return a client that opens a new connection for each request. Each connection goes to any of
    the proxies."""
    return httpx.Client(
        base_url=served.url,
        headers={"X-API-Key": key},
        trust_env=False,
        timeout=30,
        limits=httpx.Limits(max_keepalive_connections=0),
    )


def statuses(served: Deployed, key: str, path: str, times: int = 16) -> Counter[int]:
    with connecting_anew(served, key) as http:
        return Counter(http.get(path).status_code for _ in range(times))


def versions(served: Deployed, key: str, times: int = 8) -> set[int | None]:
    """Search several times, one search after the other. Return the versions of the answers. The
    version of a failed search is None."""
    found = set[int | None]()
    with connecting_anew(served, key) as http:
        for _ in range(times):
            try:
                answer = http.post("/v1/search", json={"text": "a"})
                is_found = answer.status_code == 200
                found.add(answer.json()["table_version"] if is_found else None)
            except httpx.TransportError:
                found.add(None)
            if len(found) > 1:
                break
    return found


def follow(served: Deployed, key: str, change: Callable[[], Any]) -> float:
    """Promote or roll back. Return the seconds until all answers are from the new live version."""
    version = change().version
    started = time.monotonic()
    until(lambda: versions(served, key) == {version}, POLL_S + BACK_S)
    return time.monotonic() - started


def test_replicas_on_both_nodes_answer_and_follow_promotions(deployed: Deployed) -> None:
    with connecting_anew(deployed, deployed.search_key) as http:
        for _ in range(8):
            found = http.post("/v1/search", json={"text": "a brown river", "k": 1})
            assert found.status_code == 200, found.text
            assert found.json()["hits"][0]["image_id"] == RIVER
            assert http.get(f"/v1/images/{RIVER}/bytes").content == encoded("brown")
    last = last_version(deployed)
    key = deployed.search_key
    assert follow(deployed, key, lambda: promote(deployed.location, last)) < POLL_S + SLOW_S
    assert follow(deployed, key, lambda: rollback(deployed.location)) < POLL_S + SLOW_S


def test_measurements_of_both_nodes_come_together(deployed: Deployed) -> None:
    name, label = "ray_skytext_requests_total", 'route="/v1/images/{image_id}/bytes"'
    with connecting_anew(deployed, deployed.admin_key) as http:
        until(lambda: sum(counts(http.get("/metrics").text, name, label).values()) >= 8, 60)
        found = counts(http.get("/metrics").text, name, label)
    assert len(found) == 2
    assert sum(found.values()) == 8


def test_a_revoked_key_is_refused_by_both_within_seconds(deployed: Deployed) -> None:
    keys, path = KeyStore(deployed.location), f"/v1/images/{RIVER}"
    key = keys.add("leaver", Right.SEARCH)
    until(lambda: set(statuses(deployed, key, path)) == {200}, REFRESH_S + SLOW_S)
    keys.revoke("leaver")
    time.sleep(REFRESH_S + 1.0)
    assert set(statuses(deployed, key, path)) == {401}


def test_each_ingress_replica_counts_the_requests_of_a_key(deployed: Deployed) -> None:
    key = KeyStore(deployed.location).add("busy", Right.SEARCH)
    time.sleep(REFRESH_S + 1.0)

    def ask(_: int) -> Counter[int]:
        return statuses(deployed, key, "/v1/nothing", KEY_RATE)

    with ThreadPoolExecutor(3) as pool:
        seen = sum(pool.map(ask, range(3)), Counter[int]())
    assert set(seen) == {404, 429}
    # Each of the two replicas counts separately. A new time window allows a few more requests.
    assert KEY_RATE < seen[404] < 2.1 * KEY_RATE


@contextmanager
def under_load(served: Deployed) -> Iterator[list[Asked]]:
    """Let clients search until the block ends. Check that their answers are correct."""
    texts, last = [search["text"] for search in TWO["searches"]], last_version(served)
    expected = {
        version: [
            [hit.image_id for hit in searcher.search(text, 9).hits]
            for searcher in [Searcher.open(served.location.uri, version=version)]
            for text in texts
        ]
        for version in (last - 1, last)
    }
    assert expected[last - 1] != expected[last]

    def check(_: int, answer: Any) -> None:
        (version,) = {one["table_version"] for one in answer["answers"]}
        found = [[hit["image_id"] for hit in one["hits"]] for one in answer["answers"]]
        assert found == expected[version]

    # Use several keys, because a single key would exceed its rate.
    store = KeyStore(served.location)
    keys = [store.add(f"load {time.time_ns()}", Right.SEARCH) for _ in range(NUM_KEYS)]
    time.sleep(REFRESH_S + 1.0)
    bodies, pause_s = [TWO] * (NUM_CLIENTS * NUM_KEYS), NUM_CLIENTS * 60 / (NUM_KEYS * KEY_RATE)
    with load(served.url, bodies, NUM_CLIENTS, check, keys, pause_s) as asked:
        time.sleep(2.0)
        yield asked


def lose_a_node(served: Deployed, nodes: Nodes, asked: list[Asked], change: Any) -> str:
    """Kill a worker node, and promote or roll back before the node is replaced. Return one line
    with the failures and the times."""
    nodes.kill()
    killed = time.monotonic()
    followed_s = follow(served, served.search_key, lambda: change(served.location))
    nodes.add()
    time.sleep(5.0)
    since = [one for one in asked if one.sent > killed - 2.0]
    failed = [one for one in since if one.outcome != ANSWERED]
    back_s = max((one.ended - killed for one in failed), default=0.0)
    line = (
        f"{len(failed)} of {len(since)} requests failed {outcomes(failed)}, the last of them "
        f"{back_s:.1f} s after the kill; a promotion was followed after {followed_s:.1f} s"
    )
    # If the ingress replica of a request is lost, the proxy of Serve on another node answers with
    # 500.
    in_work = [one for one in failed if one.sent < killed and one.outcome == "500"]
    later = outcomes([one for one in failed if one not in in_work])
    assert later.keys() <= {"503", "ConnectError", "ReadError", "RemoteProtocolError"}, line
    assert back_s < BACK_S, line
    assert is_normal(since, time.monotonic(), 3.0), line
    return line


def test_a_node_lost_under_load_is_replaced_within_seconds(
    deployed: Deployed, cluster: Nodes
) -> None:
    with under_load(deployed) as asked:
        line = lose_a_node(deployed, cluster, asked, promote)
    print(line)  # noqa: T201  (shown where it fails, and with -rP)


@pytest.mark.proof
@pytest.mark.timeout(1800)
def test_each_of_many_lost_nodes_is_replaced_within_seconds(
    deployed: Deployed, cluster: Nodes, capsys: pytest.CaptureFixture[str]
) -> None:
    promote(deployed.location)
    with under_load(deployed) as asked:
        for number in range(NUM_KILLS):
            killed = time.monotonic()
            change = promote if number % 2 else rollback
            line = lose_a_node(deployed, cluster, asked, change)
            until(lambda: both_nodes_have_all(cluster), 120)
            say(
                capsys,
                f"{line}; replicas on both nodes again after {time.monotonic() - killed:.1f} s",
            )
            time.sleep(5.0)
