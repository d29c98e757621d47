"""Raise an error if a path on the driver's machine does not exist on another node of the cluster.

Some folders are on a file system that every node mounts. Other folders exist only on one machine.
A path does not show this difference, so every node checks that the path exists.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from skytext.addresses.address_parser import parse_location
from skytext.archive.shards import Shard
from skytext.errors import CapacityError, ConfigError
from skytext.models.checkpoints import ModelIdentity
from skytext.table.location import TableLocation

_ANSWER_S = 60.0


def check_paths(
    location: TableLocation,
    models: Mapping[str, ModelIdentity],
    shards: Iterable[Shard] = (),
) -> None:
    """Raise an error if a path of the plan does not exist on a node of the cluster.

    Args:
        location: the table. This process must hold the claim on the table, because other nodes
            check that the file of the claim exists.
        models: the models of the run. The keys are the names of the models in error messages.
        shards: shards of the sources.

    Raises:
        ConfigError: a path does not exist on a node. The message contains the path, the node and
            the alternatives.
        CapacityError: a node did not respond in time.
    """
    paths = _table_path(location)
    for shard in shards:
        place = parse_location(shard.uri)
        if place.scheme == "file":
            paths[place.path] = "the source"
    for name, model in models.items():
        # The path of a model in an installed package may differ on each node, so such a path is not
        # checked.
        if model.is_local and not model.is_packaged:
            paths[model.source] = name
    _check_everywhere(paths)


def _table_path(location: TableLocation) -> dict[str, str]:
    if not location.is_local:
        return {}
    # Check the file of this run's claim. Another machine may have a folder with the same name, but
    # that folder does not contain this claim.
    claims = sorted(Path(location.uri, "state", "claim").glob("*"))
    return {str(claims[-1] if claims else location.uri): "the table"}


def _check_everywhere(paths: Mapping[str, str]) -> None:
    nodes = {
        str(node["NodeID"]): str(node["NodeManagerHostname"])
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("CPU", 0) > 0
    }
    here = ray.get_runtime_context().get_node_id()
    others = {node_id: host for node_id, host in nodes.items() if node_id != here}
    if not paths or not others:
        return
    ask = ray.remote(num_cpus=0, max_retries=2)(_first_missing)
    asked = {
        ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False)).remote(
            list(paths)
        ): host
        for node_id, host in others.items()
    }
    try:
        missing = ray.get(list(asked), timeout=_ANSWER_S)
    except RayError as error:
        raise CapacityError(
            "cannot check that the paths of the table, the models and the sources exist on every "
            f"node of the cluster. A node did not respond within {_ANSWER_S:g} s: {error}"
        ) from error
    for path, host in zip(missing, asked.values(), strict=True):
        if path is not None:
            raise ConfigError(
                f"{paths[path]} {path} does not exist on node {host} of the cluster. Use an "
                "address in a store (s3://… or gs://…), or a path on a file system that all nodes "
                "mount. For a model you can also use its name on the Hugging Face hub"
            )


def _first_missing(paths: list[str]) -> str | None:
    return next((path for path in paths if not os.path.exists(path)), None)
