"""Settings for every test: no model hub, and no settings of the user."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.cluster import Nodes
    from tests.faulty_proxy import FaultyProxy

# Before anything imports transformers, vLLM, Ray or boto3, which read these once; the processes
# that tests start inherit them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Each test process has one core: more threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Ray's workers have a low priority; beside a second test process they would get no time.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  (Ray reads just this name)
os.environ["VLLM_NO_USAGE_STATS"] = "1"

# No test may use the cluster or the account of the user's shell.
for _name in ("RAY_ADDRESS", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
    os.environ.pop(_name, None)
# Lance says "No existing dataset, it will be created" for the first fragment of every new table.
os.environ.setdefault("LANCE_LOG", "error")


# Tests that share a slow fixture run in one process, in this order; then the rest, file by
# file.
_RAY, _CLUSTER, _VLLM = "ray", "cluster", "vllm"
_FIRST = (_RAY, _VLLM, _CLUSTER)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Assign each test to a group that runs in one process (pytest-xdist)."""
    groups = {item.nodeid: _group(item) for item in items}
    for item in items:
        item.add_marker(pytest.mark.xdist_group(groups[item.nodeid]))
    order = {name: place for place, name in enumerate(_FIRST)}
    items.sort(key=lambda item: order.get(groups[item.nodeid], len(_FIRST)))


def pytest_collection_finish() -> None:
    """Exclude imported modules and collected tests from later garbage collections.

    Each run on Ray starts one. It would find nothing, because collected tests are never freed.
    """
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Undo that: at the end, libraries search for their remaining objects."""
    gc.unfreeze()


def _group(item: pytest.Item) -> str:
    fixtures = getattr(item, "fixturenames", ())
    if "local_ray" in fixtures:
        return _RAY
    if "cluster" in fixtures:
        return _CLUSTER
    if item.get_closest_marker("vllm"):
        return _VLLM
    return item.nodeid.partition("::")[0]


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The address of an S3 that honours conditional puts, which table commits rely on."""
    from moto.server import ThreadedMotoServer

    # It logs each request: hundreds of lines after every failure.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with pytest.MonkeyPatch.context() as patch:
        _make_puts_atomic(patch)
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
        server.stop()


def _make_puts_atomic(patch: pytest.MonkeyPatch) -> None:
    """Let moto answer one put at a time.

    It looks whether the object is there, and then writes it: of two conditional puts at the same
    moment both may succeed, which no S3 does.
    """
    from moto.s3.responses import S3Response

    lock = threading.RLock()

    def one_at_a_time(answer: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(answer)
        def locked(*args: Any, **more: Any) -> Any:
            with lock:
                return answer(*args, **more)

        return locked

    for name in ("_key_response_put", "_key_response_post"):
        patch.setattr(S3Response, name, one_at_a_time(getattr(S3Response, name)))


@pytest.fixture(scope="session")
def s3_settings(s3_endpoint: str) -> dict[str, str]:
    """The variables that make every AWS client use that S3 and no settings of this machine."""
    return {
        "AWS_ENDPOINT_URL": s3_endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
        "NO_PROXY": "127.0.0.1",
    }


@pytest.fixture
def s3(s3_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client for that S3, which this process's sources and tables use too."""
    import boto3

    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in s3_settings.items():
        monkeypatch.setenv(name, value)
    return boto3.session.Session().client("s3")


@pytest.fixture(scope="session")
def proxy(s3_endpoint: str) -> Iterator[FaultyProxy]:
    """The proxy between the Ray clusters below and that S3."""
    from tests.faulty_proxy import faulty_proxy

    with faulty_proxy(s3_endpoint) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def cluster(s3_settings: dict[str, str], proxy: FaultyProxy) -> Iterator[Nodes]:
    """A head and two worker nodes for the whole session; they reach the S3 through the proxy."""
    from tests.cluster import serve_settings, start_cluster

    settings = s3_settings | serve_settings() | {"AWS_ENDPOINT_URL": proxy.url}
    with start_cluster(settings) as nodes:
        yield nodes


@pytest.fixture(scope="session")
def local_ray(
    s3_settings: dict[str, str], proxy: FaultyProxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """One local Ray of two CPUs for the session; its workers reach the S3 through the proxy.

    Its temporary folder has a longer path than a socket can have.
    """
    import ray.data  # noqa: F401

    from skytext.config.settings import Config
    from skytext.run.cluster import cluster

    # It logs every scheduler step: pytest would keep thousands of records.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    config = Config.model_validate({"job": {"object_store_bytes": 100 * 2**20}})
    with contextlib.ExitStack() as until_the_end:
        with pytest.MonkeyPatch.context() as patch:
            # Workers inherit what is set when Ray starts.
            for name, value in (s3_settings | {"AWS_ENDPOINT_URL": proxy.url}).items():
                patch.setenv(name, value)
            # Replicas report their counts at this interval; a test waits for them.
            patch.setenv("RAY_metrics_report_interval_ms", "5000")
            patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("temporary-" * 9)))
            until_the_end.enter_context(cluster.local_ray(config, num_cpus=2))
        yield
