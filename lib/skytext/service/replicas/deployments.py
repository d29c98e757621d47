"""The application: deployments on Ray Serve that call each other.

ingress ──► embedding (embeds the queries of many requests in one batch)
        ──► search (has one replica per node, so that each node has only one index cache)
        ──► captioning (exists only if searches by an uploaded image are configured)

The deployments ingress, embedding and search each reserve a fraction of a CPU. Together they fit on
two CPUs. On a cluster, ``serve/config.yaml`` sets the number of replicas, the autoscaling and the
resources.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve.config import BackpressureConfig
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from skytext.config.environment import bypass_proxies
from skytext.config.settings import Config
from skytext.errors import ConfigError, JobError
from skytext.service.access.api_keys import KeyStore
from skytext.service.access.authentication import Keyring
from skytext.service.access.rate_limits import Drain
from skytext.service.backend import Backend
from skytext.service.canary_watch import CanaryWatch
from skytext.service.http.application import make_app
from skytext.service.replicas.deployment_calls import DescribeHandle, EmbedHandle, SearchHandle
from skytext.service.replicas.listening_socket import serving, take_socket
from skytext.service.replicas.model_workers import CaptionWorker, EmbeddingWorker, Item
from skytext.service.replicas.search_worker import SearchWorker
from skytext.service.search_query import Embedded
from skytext.service.served_tables import TableSet
from skytext.service.telemetry.logs import configure_logs
from skytext.service.telemetry.metrics import RayMeter
from skytext.service.telemetry.node_metrics import cluster_metrics
from skytext.service.telemetry.tracing import start_tracing

INGRESS, EMBEDDING, SEARCH, CAPTIONING = "ingress", "embedding", "search", "captioning"
APPLICATION = "skytext"


class Embedding(EmbeddingWorker):
    """Embeds the queries of many requests in one forward pass."""

    def __init__(self, tables: TableSet, settings: Mapping[str, Any]) -> None:
        config = _start(EMBEDDING, settings)
        super().__init__(tables, config, RayMeter())
        self.in_batch.set_max_batch_size(config.service.embed_max_batch)
        self.in_batch.set_batch_wait_timeout_s(config.service.embed_batch_wait_s)
        self.follower.start()

    @serve.batch
    async def in_batch(self, items: list[Item]) -> list[Embedded | BaseException]:
        """Return the vector of each text.

        A caller passes one text. Ray Serve collects the texts of several callers in ``items``.
        """
        return await self.embed(items)

    def check_health(self) -> None:
        """Raise an error if Ray Serve must replace this replica."""
        if not self.follower.is_alive():
            raise RuntimeError("the thread that checks for promotions has ended")


class Search(SearchWorker):
    """Searches the promoted versions of the tables."""

    def __init__(self, tables: TableSet, settings: Mapping[str, Any]) -> None:
        super().__init__(tables, _start(SEARCH, settings), RayMeter())
        self.follower.start()
        self.freshness.start()

    def check_health(self) -> None:
        """Raise an error if Ray Serve must replace this replica."""
        if not self.follower.is_alive():
            raise RuntimeError("the thread that checks for promotions has ended")


class Captioning(CaptionWorker):
    """Describes uploaded images."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(_start(CAPTIONING, settings), RayMeter())

    async def check_health(self) -> None:
        """Raise an error if Ray Serve must replace this replica.

        The first call starts the captioning engine.
        """
        await self.start()

    def __del__(self) -> None:
        self.close()


class Ingress:
    """The HTTP API."""

    def __init__(
        self,
        tables: TableSet,
        settings: Mapping[str, Any],
        embedding: DeploymentHandle,
        search: DeploymentHandle,
        captioning: DeploymentHandle | None = None,
    ) -> None:
        self._config = _start(INGRESS, settings)
        has_proxy = os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "1"
        if has_proxy and self._config.service.access.require_keys is not True:
            raise ConfigError(
                "Ray Serve's HAProxy is enabled. It hides the addresses of clients. Therefore, a "
                "service without API keys would accept requests from every machine. Set "
                "service.access.require_keys to true, or unset RAY_SERVE_ENABLE_HA_PROXY"
            )
        self._tables = tables
        self._drain = Drain()
        self._backend = Backend(
            EmbedHandle(embedding),
            SearchHandle(search),
            None if captioning is None else DescribeHandle(captioning),
            cluster_metrics,
            CanaryWatch(self._tables, self._config.service, RayMeter()),
        )

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return self.make_app(sends_request_id=False)

    def make_app(self, *, sends_request_id: bool) -> ASGIApp:
        """Return the HTTP application.

        Args:
            sends_request_id: true if the application must add the request id to responses. False
                if Ray Serve's HTTP server adds the request id.
        """
        access = self._config.service.access
        keyring = None
        if access.require_keys:
            # Only the keys of the first table are valid, also for searches in the other tables.
            keyring = Keyring(KeyStore(self._tables.locations[0]), access.refresh_s)
        return make_app(
            self._tables,
            self._backend,
            self._config,
            RayMeter(),
            keyring,
            drain=self._drain,
            sends_request_id=sends_request_id,
        )

    async def drain(self, seconds: float) -> int:
        """Refuse new requests, and wait until the running requests have ended.

        Args:
            seconds: the maximum waiting time.

        Returns:
            The number of requests that are still running after the wait.
        """
        return await self._drain.drain(seconds)


class ListeningIngress:
    """The HTTP API on a listening socket of this machine, without Ray Serve's proxy.

    ``skytext serve`` starts only one ingress replica, so a proxy could not distribute requests. A
    proxy would only parse each request a second time. This would cost a tenth of the CPU time of a
    request.

    Args:
        listener: the path that `skytext.service.replicas.listening_socket.take_socket` needs to get
            the listening socket.
        tables: the first argument of `Ingress`.
        rest: the other arguments of `Ingress`.
    """

    def __init__(self, listener: str, tables: TableSet, *rest: Any) -> None:
        self._ingress = Ingress(tables, *rest)
        self._listener = listener
        self._held = contextlib.AsyncExitStack()
        self._answering: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start to accept requests. If this was called before, do nothing."""
        if self._answering is None:
            app = self._ingress.make_app(sends_request_id=True)
            server = serving(app, take_socket(self._listener))
            self._answering = await self._held.enter_async_context(server)

    async def check_health(self) -> None:
        """Raise an error if Ray Serve must replace this replica.

        The first call of this method starts the HTTP server.
        """
        await self.start()
        if self._answering is None or self._answering.done():
            raise JobError("the HTTP server of the API has ended")

    async def drain(self, seconds: float) -> int:
        """Refuse new requests, and wait until the running requests have ended.

        Args:
            seconds: the maximum waiting time.

        Returns:
            The number of requests that are still running after the wait.
        """
        return await self._ingress.drain(seconds)


def build_application(
    tables: TableSet, config: Config, listener: str | None = None
) -> serve.Application:
    """Return the application that ``serve.run`` or ``serve deploy`` starts.

    Args:
        tables: the tables to serve. Their addresses must be valid on every node.
        config: all settings.
        listener: the path from which the ingress gets the listening socket. None means that the
            ingress has no socket, and that Ray Serve's proxy forwards requests to the ingress.
    """
    settings = config.model_dump(mode="json")
    behind = _behind(tables, settings, config)
    limits = config.service.limits
    in_work = limits.num_running + limits.max_waiting
    in_work += 2 * (limits.max_images_running + limits.max_uploads_running)
    ingress = serve.deployment(
        name=INGRESS,
        ray_actor_options={"num_cpus": 0.2},
        # This limit is higher than the limits of `Gate`. Therefore, `Gate` refuses a request
        # before Ray Serve does. `Gate` responds with problem details, and needs little CPU time.
        max_ongoing_requests=in_work + 256,
        max_queued_requests=256,
        **_life(config),
    )
    if listener is not None:
        return ingress(ListeningIngress).bind(listener, tables, settings, *behind)
    return ingress(serve.ingress()(Ingress)).bind(tables, settings, *behind)


def _life(config: Config) -> dict[str, Any]:
    """Return the options that all deployments have in common."""
    retry_after_s = float(config.service.limits.retry_after_s)
    return {
        "backpressure_config": BackpressureConfig(status_code=503, retry_after_s=retry_after_s),
        # If a replica has ended, Ray Serve detects this within this time. Ray's default is 10 s.
        # With the default, most of the time of an outage would pass before the detection.
        "health_check_period_s": 2.0,
        "graceful_shutdown_wait_loop_s": 0.2,
        "graceful_shutdown_timeout_s": config.service.drain_s,
    }


def _behind(tables: TableSet, settings: Mapping[str, Any], config: Config) -> tuple[Any, ...]:
    """Return the deployments that the ingress calls.

    Their order is the order of the arguments of `Ingress`.
    """
    limits, max_batch, life = config.service.limits, config.service.embed_max_batch, _life(config)
    embedding = serve.deployment(
        name=EMBEDDING,
        ray_actor_options={"num_cpus": 0.5},
        max_ongoing_requests=4 * max_batch,
        # Each running request may call this deployment up to ``max_texts`` times.
        max_queued_requests=max(8 * max_batch, limits.num_running * limits.max_texts),
        **life,
    )(Embedding).bind(tables, settings)
    search = serve.deployment(
        name=SEARCH,
        ray_actor_options={"num_cpus": 0.4},
        max_replicas_per_node=1,
        max_ongoing_requests=64,
        max_queued_requests=256,
        **life,
    )(Search).bind(tables, settings)
    if not config.service.captioner:
        return embedding, search
    engine = config.caption.engine
    captioning = serve.deployment(
        name=CAPTIONING,
        ray_actor_options={
            "num_cpus": engine.num_cpus_per_engine,
            "num_gpus": engine.num_gpus_per_engine or 0,
        },
        max_ongoing_requests=engine.max_num_seqs,
        max_queued_requests=limits.max_uploads_running,
        **life,
    )(Captioning).bind(settings)
    return embedding, search, captioning


def _start(process: str, settings: Mapping[str, Any]) -> Config:
    # Call this in each replica, because the nodes of a cluster may have different environments.
    bypass_proxies()
    # Write the log to the log files of Ray Serve, because Ray's tools read and rotate these files.
    configure_logs(logging.getLogger("ray.serve").handlers)
    start_tracing(process)
    return Config.model_validate(settings)
