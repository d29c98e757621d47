"""What the cluster's autoscaler may add: its node types, as far as they can be read from here."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import ray
import yaml
from ray._private import state as ray_state
from ray.experimental.internal_kv import _internal_kv_get

_OPTION = "--autoscaling-config="
# What `ray status` prints; on Kubernetes only the autoscaler writes it, elsewhere every head does.
_STATUS_KEY = "__autoscaling_status"
_ON_KUBERNETES = "RAY_USAGE_STATS_KUBERAY_IN_USE"


@dataclass(frozen=True, slots=True)
class NodeType:
    """A kind of node that the autoscaler may start.

    Attributes:
        num_cpus: of one node.
        num_gpus: of one node.
        max_nodes: nodes of this kind at the most.
    """

    num_cpus: float
    num_gpus: float
    max_nodes: int


def find_node_types() -> tuple[NodeType, ...] | None:
    """Return the node types of the cluster's autoscaler; Ray must be initialised.

    They stand in Ray's state where the provider reports them, else in the file that the
    autoscaler's process on this machine was started with (`ray up`). KubeRay's autoscaler tells
    nothing of its limits to the jobs: then the result is empty.

    Returns:
        None where the cluster has no autoscaler.
    """
    reported = ray_state.state.get_cluster_config()
    if reported is not None and reported.node_group_configs:
        return tuple(
            NodeType(
                float(group.resources.get("CPU", 0)),
                float(group.resources.get("GPU", 0)),
                group.max_count if group.max_count >= 0 else 2**31,
            )
            for group in reported.node_group_configs
        )
    config = _autoscaler_file()
    if config is not None:
        return _types_in(config)
    on_kubernetes = os.environ.get(_ON_KUBERNETES) == "1"
    return () if on_kubernetes and _internal_kv_get(_STATUS_KEY) is not None else None


def _autoscaler_file() -> dict[str, Any] | None:
    """Return the configuration of the autoscaler's process of this cluster, if it runs here."""
    address = ray.get_runtime_context().gcs_address
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError, yaml.YAMLError):
            words = process.cmdline()
            paths = [word.removeprefix(_OPTION) for word in words if word.startswith(_OPTION)]
            if not paths or f"--gcs-address={address}" not in words:
                continue
            found = yaml.safe_load(Path(paths[0]).expanduser().read_text(encoding="utf-8"))
            if isinstance(found, dict) and "available_node_types" in found:
                return found
    return None


def _types_in(config: dict[str, Any]) -> tuple[NodeType, ...]:
    """Read the node types of a configuration as `ray up` takes it."""
    most = int(config.get("max_workers", 2**31))
    types = []
    for name, kind in config["available_node_types"].items():
        resources = kind.get("resources", {})
        is_head = name == config.get("head_node_type")
        max_nodes = 1 if is_head else min(most, int(kind.get("max_workers", most)))
        types.append(
            NodeType(float(resources.get("CPU", 0)), float(resources.get("GPU", 0)), max_nodes)
        )
    return tuple(types)
