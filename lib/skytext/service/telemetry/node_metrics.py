"""Collect the metrics of a cluster from the agents of its nodes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable

import httpx

_PREFIXES = ("ray_skytext_", "ray_serve_")
# A busy node with many workers needs several seconds to respond. This timeout is shorter than the
# timeout of Prometheus (10 s).
_TIMEOUT_S = 5.0
# Ray exports its metrics with OpenTelemetry, and OpenTelemetry adds these labels to every line. The
# values are the same in every line, so remove these labels.
_NOISE = re.compile(r',?otel_scope_\w+="[^"]*"')


async def cluster_metrics() -> str:
    """Return the service's metrics from all nodes, in Prometheus' text format.

    If a node does not respond, the metric ``skytext_node_scraped`` is 0 for this node. The result
    then contains no other metrics of this node.
    """
    nodes = await asyncio.to_thread(_nodes)
    async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as client:
        texts = await asyncio.gather(*(_scrape(client, host, port) for host, port in nodes))
    lines = merge(text for text in texts if text is not None)
    lines.append("# HELP skytext_node_scraped 1 if the node returned its metrics, else 0.")
    lines.append("# TYPE skytext_node_scraped gauge")
    for (host, _), text in zip(nodes, texts, strict=True):
        lines.append(f'skytext_node_scraped{{node="{host}"}} {int(text is not None)}')
    return "\n".join(lines) + "\n"


def merge(texts: Iterable[str]) -> list[str]:
    """Merge the metrics of several nodes into one list of lines.

    The result contains each metric family of the service once. The family contains the samples of
    all nodes.
    """
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for text in texts:
        family = ""
        for line in text.splitlines():
            if line.startswith("# "):
                _, kind, family = line.split(" ", 3)[:3]
                if family.startswith(_PREFIXES) and kind in ("HELP", "TYPE"):
                    head = heads.setdefault(family, [])
                    if not any(known.split(" ")[1] == kind for known in head):
                        head.append(line)
            elif family.startswith(_PREFIXES):
                samples.setdefault(family, []).append(_NOISE.sub("", line))
    return [line for family, head in heads.items() for line in (*head, *samples.get(family, ()))]


def _nodes() -> list[tuple[str, int]]:
    import ray

    return [
        (node["NodeManagerAddress"], node["MetricsExportPort"])
        for node in ray.nodes()
        if node["Alive"]
    ]


async def _scrape(client: httpx.AsyncClient, host: str, port: int) -> str | None:
    try:
        answer = await client.get(f"http://{host}:{port}/metrics")
        answer.raise_for_status()
    except httpx.HTTPError:
        return None
    return answer.text
