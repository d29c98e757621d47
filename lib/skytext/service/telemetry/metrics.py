"""The metrics of the service.

On Ray, every process sends its metrics to the Ray agent on the same node. Prometheus scrapes the
agents. Each process has its own time series, so a time series never mixes the counters of several
replicas. Without Ray (in tests), a registry in this process stores the metrics.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0),
)
_COUNTS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


class Metric(NamedTuple):
    """One metric.

    Attributes:
        kind: the Prometheus type.
        help: the description of the metric.
        labels: the names of the labels. Each label must have few different values.
        buckets: the upper bounds of the buckets. Only histograms use them.
    """

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = _SECONDS


METRICS: Mapping[str, Metric] = {
    "skytext_requests_total": Metric(
        "counter", "Number of requests, by route and status.", ("method", "route", "status")
    ),
    "skytext_request_seconds": Metric(
        "histogram",
        "Time from the last byte of the request to the last byte of the response.",
        ("route",),
    ),
    "skytext_refused_total": Metric(
        "counter", "Number of requests refused because of a limit, by reason.", ("reason",)
    ),
    "skytext_wait_seconds": Metric("histogram", "Waiting time of a request in the queue."),
    "skytext_running": Metric(
        "gauge", "Number of requests that run now in this ingress replica.", ("what",)
    ),
    "skytext_stage_seconds": Metric(
        "histogram",
        "Duration of one stage of a request. The stages are embed, search, image, read, thumbnail "
        "and caption.",
        ("stage",),
    ),
    "skytext_searches_total": Metric(
        "counter",
        "Number of search requests that name no version. The label version is live or canary.",
        ("version", "ok"),
    ),
    "skytext_search_seconds": Metric(
        "histogram",
        "Total duration of embedding and search, for each search request that names no version.",
        ("version",),
    ),
    "skytext_canary_running": Metric("gauge", "1 while a canary is running, else 0."),
    "skytext_canary_stopped": Metric(
        "gauge", "1 after a canary was stopped. 0 after the next promotion, rollback or canary."
    ),
    "skytext_embed_batch_size": Metric(
        "histogram", "Number of texts embedded in one batch.", (), _COUNTS
    ),
    "skytext_table_version": Metric(
        "gauge", "The live version that this search replica serves, by table.", ("table",)
    ),
    "skytext_swaps_total": Metric(
        "counter", "Number of attempts to change the served version, by result.", ("ok",)
    ),
    "skytext_swap_seconds": Metric("histogram", "Time to open and warm a new live version."),
    "skytext_oldest_unsearchable_seconds": Metric(
        "gauge",
        "Age of the oldest captioned image that the live version does not contain. The value is 0 "
        "if the live version contains all captioned images.",
        ("table",),
    ),
    "skytext_uncovered_rows": Metric(
        "gauge",
        "Number of rows in the live version that are not in the vector index.",
        ("table",),
    ),
    "skytext_index_segments": Metric(
        "gauge", "Number of segments of the vector index in the live version.", ("table",)
    ),
    "skytext_table_versions": Metric(
        "gauge", "Number of stored versions of the table.", ("table",)
    ),
    "skytext_table_bytes": Metric(
        "gauge", "Total size of the files of all versions, in bytes.", ("table",)
    ),
    "skytext_reindex_success_timestamp_seconds": Metric(
        "gauge",
        "Time of the last successful reindex run, in seconds since 1970. The value is 0 if no "
        "reindex run has succeeded.",
        ("table",),
    ),
    "skytext_row_copies_total": Metric(
        "counter", "Number of attempts to copy rows to this machine's disk, by result.", ("ok",)
    ),
}


class Meter(Protocol):
    """Records measurements."""

    def count(self, name: str, **labels: str) -> None:
        """Add one to a counter."""

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add a value to a histogram."""

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""


@contextmanager
def timed(meter: Meter, stage: str) -> Iterator[None]:
    """Measure the duration of a stage, even if the stage fails."""
    started = time.perf_counter()
    try:
        yield
    finally:
        meter.observe("skytext_stage_seconds", time.perf_counter() - started, stage=stage)


class LocalMeter:
    """Stores metrics in this process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._made: dict[str, Any] = {}
        for name, metric in METRICS.items():
            more: dict[str, Any] = {"registry": self._registry}
            kind: Any = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}[metric.kind]
            if metric.kind == "histogram":
                more["buckets"] = metric.buckets
            self._made[name] = kind(name, metric.help, metric.labels, **more)

    def count(self, name: str, **labels: str) -> None:
        """Add one to a counter."""
        self._child(name, labels).inc()

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add a value to a histogram."""
        self._child(name, labels).observe(value)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._child(name, labels).set(value)

    def text(self) -> str:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry).decode()

    def _child(self, name: str, labels: Mapping[str, str]) -> Any:
        return self._made[name].labels(**labels) if labels else self._made[name]


class RayMeter:
    """Sends metrics to the Ray agent of this node."""

    def __init__(self) -> None:
        from ray.util import metrics

        self._made: dict[str, Any] = {}
        for name, metric in METRICS.items():
            more: dict[str, Any] = {"description": metric.help, "tag_keys": metric.labels}
            if metric.kind == "histogram":
                more["boundaries"] = list(metric.buckets)
            kind = {
                "counter": metrics.Counter,
                "gauge": metrics.Gauge,
                "histogram": metrics.Histogram,
            }[metric.kind]
            self._made[name] = kind(name, **more)

    def count(self, name: str, **labels: str) -> None:
        """Add one to a counter."""
        self._made[name].inc(1, tags=labels)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add a value to a histogram."""
        self._made[name].observe(value, tags=labels)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._made[name].set(value, tags=labels)
