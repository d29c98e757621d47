"""Read the node types that the autoscaler of the cluster may add."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import psutil
import ray
import yaml
from ray._private import state as ray_state
from ray.experimental.internal_kv import _internal_kv_get

from skytext.run.cluster.nodes import Nodes, Resources

_MANY = 2**31
_OPTION = "--autoscaling-config="
# Ray stores the output of `ray status` under this key. On Kubernetes, the key exists only if there
# is an autoscaler. On other platforms, every head node writes the key.
_STATUS_KEY = "__autoscaling_status"
_ON_KUBERNETES = "RAY_USAGE_STATS_KUBERAY_IN_USE"


def find_addable_nodes() -> Nodes | None:
    """Return all nodes that the autoscaler may run at the same time. Ray must be initialised.

    Some cluster providers report the node types to Ray. Otherwise the node types are read from the
    configuration file of an autoscaler on this machine (`ray up`). A job cannot read the limits of
    KubeRay's autoscaler. In this case the result has no node types.

    Returns:
        The nodes; None if the cluster has no autoscaler.
    """
    reported = ray_state.state.get_cluster_config()
    if reported is not None and reported.node_group_configs:
        groups = reported.node_group_configs
        return Nodes(
            tuple(
                (Resources.of(group.resources), group.max_count if group.max_count >= 0 else _MANY)
                for group in groups
            )
        )
    config = _autoscaler_file()
    if config is not None:
        return _nodes_of(config)
    on_kubernetes = os.environ.get(_ON_KUBERNETES) == "1"
    return Nodes(()) if on_kubernetes and _internal_kv_get(_STATUS_KEY) is not None else None


def _autoscaler_file() -> dict[str, Any] | None:
    """Return the configuration of this cluster's autoscaler.

    Returns:
        The configuration; None if no autoscaler of this cluster runs on this machine.
    """
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


def _nodes_of(config: dict[str, Any]) -> Nodes:
    """Read the node types from a `ray up` configuration."""
    most = int(config.get("max_workers", _MANY))
    kinds = []
    for name, kind in config["available_node_types"].items():
        is_head = name == config.get("head_node_type")
        count = 1 if is_head else min(most, int(kind.get("max_workers", most)))
        kinds.append((Resources.of(kind.get("resources", {})), count))
    return Nodes(tuple(kinds))
