"""Prepare the environment of all tests. Tests use no model hub and no settings of the user."""

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

# These variables must be set before transformers, vLLM, Ray or boto3 are imported, because these
# libraries read the variables only once. The processes that tests start inherit the variables.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Each test process has one core. More threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# By default, the workers of Ray have a low priority. If a second test process is running, these
# workers would get no CPU time.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  (Ray reads just this name)
os.environ["VLLM_NO_USAGE_STATS"] = "1"

# No test may use the cluster or the account of the user's shell.
for _name in ("RAY_ADDRESS", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
    os.environ.pop(_name, None)
# Otherwise Lance logs "No existing dataset, it will be created" for the first fragment of every new
# table.
os.environ.setdefault("LANCE_LOG", "error")


# All tests that share a slow fixture form one group. A group runs in one process. These groups
# start first, in this order. Each file of other tests is also a group.
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
    """Exclude the modules and tests that are in memory now from later garbage collections.

    Each run on Ray starts a garbage collection. It would free none of these objects, because pytest
    keeps all tests in memory.
    """
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Undo `gc.freeze`, because libraries search for their remaining objects at the end."""
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
    """Yield the address of an S3 server that supports conditional PUT requests.

    Commits to a table need these requests.
    """
    from moto.server import ThreadedMotoServer

    # werkzeug logs each request. pytest would print hundreds of these lines after every failure.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with pytest.MonkeyPatch.context() as patch:
        _make_puts_atomic(patch)
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
        server.stop()


def _make_puts_atomic(patch: pytest.MonkeyPatch) -> None:
    """Make moto answer only one PUT request at a time.

    moto checks whether the object exists, and then writes the object. If two conditional PUT
    requests arrive at the same time, both may succeed. This is impossible on a real S3.
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
    """Return the environment variables for all AWS clients.

    With these variables, a client uses the S3 server of the tests and no settings of this machine.
    """
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
    """Return a client of the S3 server.

    During the test, the sources and the tables of this process also use this server.
    """
    import boto3

    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in s3_settings.items():
        monkeypatch.setenv(name, value)
    return boto3.session.Session().client("s3")


@pytest.fixture(scope="session")
def proxy(s3_endpoint: str) -> Iterator[FaultyProxy]:
    """Yield the proxy between the S3 server and the Ray clusters of the fixtures below."""
    from tests.faulty_proxy import faulty_proxy

    with faulty_proxy(s3_endpoint) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def cluster(s3_settings: dict[str, str], proxy: FaultyProxy) -> Iterator[Nodes]:
    """Yield a cluster of a head node and two worker nodes for the whole test session.

    The nodes connect to the S3 server through the proxy.
    """
    from tests.cluster import serve_settings, start_cluster

    settings = s3_settings | serve_settings() | {"AWS_ENDPOINT_URL": proxy.url}
    with start_cluster(settings) as nodes:
        yield nodes


@pytest.fixture(scope="session")
def local_ray(
    s3_settings: dict[str, str], proxy: FaultyProxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Run one local Ray with two CPUs for the whole test session.

    The workers connect to the S3 server through the proxy. The path of the temporary folder is
    longer than the path of a socket may be.
    """
    import ray.data  # noqa: F401

    from skytext.config.settings import Config
    from skytext.run.cluster import cluster

    # Ray Data logs every step of its scheduler. pytest would keep thousands of log records.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    config = Config.model_validate({"job": {"object_store_bytes": 100 * 2**20}})
    with contextlib.ExitStack() as until_the_end:
        with pytest.MonkeyPatch.context() as patch:
            # Workers inherit the variables that are set when Ray starts.
            for name, value in (s3_settings | {"AWS_ENDPOINT_URL": proxy.url}).items():
                patch.setenv(name, value)
            # Replicas report their counts at this interval. A test waits for these reports.
            patch.setenv("RAY_metrics_report_interval_ms", "5000")
            patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("temporary-" * 9)))
            until_the_end.enter_context(cluster.local_ray(config, num_cpus=2))
        yield
