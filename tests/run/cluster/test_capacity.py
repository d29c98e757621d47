"""Test the comparison of the resources of a plan and of a cluster, without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from skytext.config.settings import load_config
from skytext.errors import CapacityError
from skytext.run.cluster import capacity
from skytext.run.cluster.autoscaler import _nodes_of
from skytext.run.cluster.capacity import Offer, fit_plan, gpus_per_engine
from skytext.run.cluster.nodes import Nodes, Resources

ROOT = Path(__file__).parents[3]
HEAD, GPU_NODE = Resources(8, 0), Resources(8, 1)


def offer_of(
    *live: Resources, more: tuple[tuple[Resources, int], ...] | None = None, has_limits: bool = True
) -> Offer:
    nodes = Nodes(tuple((node, 1) for node in live))
    return Offer(nodes, nodes if more is None else Nodes(more), has_limits)


CPUS_ONLY = offer_of(HEAD)
WITH_GPUS = offer_of(HEAD, Resources(8, 2))
MAY_GROW = offer_of(HEAD, more=((HEAD, 1), (GPU_NODE, 4)))
UNKNOWN = offer_of(HEAD, has_limits=False)
LLAVA = "llava-hf/llava-1.5-7b-hf"


def config(**settings: Any) -> Any:
    return load_config(None, {name.replace("__", "."): v for name, v in settings.items()})


@pytest.mark.parametrize(
    ("offer", "model", "is_cpu_build", "gpus"),
    [
        (CPUS_ONLY, "fake", False, 0.0),
        (CPUS_ONLY, LLAVA, True, 0.0),
        # The driver has the GPU build of vLLM, or has no vLLM. The engine will need a GPU.
        (CPUS_ONLY, LLAVA, False, 1.0),
        (WITH_GPUS, "fake", True, 1.0),
        (MAY_GROW, LLAVA, True, 1.0),
        (UNKNOWN, LLAVA, False, 1.0),
        (UNKNOWN, LLAVA, True, 0.0),
    ],
)
def test_an_engine_asks_for_gpus_where_there_are_or_must_be_some(
    offer: Offer, model: str, is_cpu_build: bool, gpus: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "_is_cpu_build", lambda: is_cpu_build)
    assert gpus_per_engine(config(caption__model=model), offer) == gpus
    named = config(caption__model=model, caption__engine__num_gpus_per_engine=0.5)
    assert gpus_per_engine(named, offer) == 0.5


def test_a_fitting_plan_prints_nothing() -> None:
    messages: list[str] = []
    sizes, gpus = fit_plan(config(caption__model="fake"), WITH_GPUS, messages.append)
    assert (sizes.num_engines, gpus, messages) == (1, 1.0, [])


@pytest.mark.parametrize("offer", [MAY_GROW, UNKNOWN], ids=["limits known", "limits unknown"])
def test_waiting_for_autoscaler_nodes_is_reported(
    offer: Offer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "_is_cpu_build", lambda: False)
    messages: list[str] = []
    sizes, gpus = fit_plan(
        config(caption__model=LLAVA, caption__engine__num_engines=4), offer, messages.append
    )
    assert (sizes.num_engines, gpus) == (4, 1.0)
    assert messages == [
        "the plan needs 6.35 CPUs and 4 GPUs to start, but the cluster has 8 CPUs and 0 GPUs now: "
        "waiting for the autoscaler to add nodes. The run uses each new node immediately"
    ]


@pytest.mark.parametrize(
    ("offer", "settings", "message"),
    [
        (MAY_GROW, {"num_engines": 5}, r"cluster has 8 CPUs and 0 GPUs and may grow to 40 CPUs"),
        (WITH_GPUS, {"num_engines": 3}, r"needs .* and 3 GPUs, .*num_engines \(3\)"),
        (
            WITH_GPUS,
            {"tensor_parallel_size": 4},
            r"needs 1\.85 CPUs and 4 GPUs, but the cluster has 16",
        ),
        (
            offer_of(HEAD, GPU_NODE, GPU_NODE),
            {"tensor_parallel_size": 2},
            r"an engine needs 1 CPUs and 2 GPUs on one node, but only 0 of 1 engines fit",
        ),
        (
            CPUS_ONLY,
            {},
            r"needs 1\.85 CPUs and 1 GPUs, but the cluster has 8 CPUs and 0 GPUs.*skytext\[cpu\]",
        ),
    ],
)
def test_a_plan_that_can_never_fit_is_rejected(
    offer: Offer, settings: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "_is_cpu_build", lambda: False)
    engine = {f"caption__engine__{name}": value for name, value in settings.items()}
    with pytest.raises(CapacityError, match=message):
        fit_plan(config(caption__model=LLAVA, **engine), offer)


def test_the_run_waits_for_nodes_added_by_hand_as_long_as_configured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(capacity, "_LOOK_EVERY_S", 0.01)
    offers = [CPUS_ONLY, CPUS_ONLY, WITH_GPUS]
    monkeypatch.setattr(capacity, "read_offer", lambda: offers.pop(0))
    messages: list[str] = []
    wanted = config(caption__model=LLAVA, caption__engine__num_gpus_per_engine=2)
    waiting = wanted.model_copy(
        update={"job": wanted.job.model_copy(update={"wait_for_nodes_s": 30.0})}
    )
    assert fit_plan(waiting, CPUS_ONLY, messages.append)[1] == 2
    assert "waiting up to 30 s for nodes" in messages[0]
    short = wanted.model_copy(
        update={"job": wanted.job.model_copy(update={"wait_for_nodes_s": 0.05})}
    )
    monkeypatch.setattr(capacity, "read_offer", lambda: CPUS_ONLY)
    with pytest.raises(CapacityError, match="and 2 GPUs, but the cluster has 8 CPUs and 0 GPUs"):
        fit_plan(short, CPUS_ONLY)


def test_node_types_are_read_as_ray_up_takes_them() -> None:
    shipped = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
    assert _nodes_of(shipped).kinds == (
        (Resources(8, 0), 1),
        (Resources(8, 1), 4),
        (Resources(16, 0), 8),
    )


def test_cluster_yaml_accepts_a_gpu_plan_before_any_gpu_node_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shipped = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
    head = {"NodeID": "0", "Alive": True, "Resources": {"CPU": 8.0}}
    monkeypatch.setattr(capacity.ray, "nodes", lambda: [head])
    monkeypatch.setattr(capacity, "find_addable_nodes", lambda: _nodes_of(shipped))
    monkeypatch.setattr(capacity, "_is_cpu_build", lambda: False)
    offer = capacity.read_offer()
    assert offer.most.total == Resources(8 + 4 * 8 + 8 * 16, 4)
    messages: list[str] = []
    _, gpus = fit_plan(
        config(caption__model=LLAVA, caption__engine__num_engines=4), offer, messages.append
    )
    assert (gpus, len(messages)) == (1.0, 1)


@pytest.mark.parametrize(
    ("one", "room"),
    [
        (Resources(1, 0), 8),
        (Resources(1, 1), 2),
        (Resources(4, 0.5), 2),
        (Resources(0.1, 0.2), 10),  # With floats, 2 // 0.2 is 9.
        (Resources(1, 4), 0),
    ],
)
def test_actors_fit_whole_onto_a_node(one: Resources, room: int) -> None:
    assert Resources(8, 2).room_for(one) == room
    assert Nodes(((Resources(8, 2), 3), (HEAD, 1))).room_for(one) == 3 * room + HEAD.room_for(one)
