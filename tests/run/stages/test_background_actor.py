"""Tests of the priority and the number of threads of an embedding actor."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import ray

from skytext.run.stages.background_actor import number_to_share, run_in_background


@pytest.fixture
def priorities(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An actor with half a CPU on a node with 6 CPUs. The cluster has 16 CPUs, the machine 8 cores.

    The list contains the priorities that the actor has set.
    """
    context = SimpleNamespace(
        get_assigned_resources=lambda: {"CPU": 0.5}, get_node_id=lambda: "small"
    )
    nodes = [
        {"NodeID": "large", "Resources": {"CPU": 10.0}, "Alive": True},
        {"NodeID": "small", "Resources": {"CPU": 6.0}, "Alive": True},
        {"NodeID": "lost", "Resources": {"CPU": 64.0}, "Alive": False},
    ]
    found: list[int] = []
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(os, "setpriority", lambda *given: found.append(given[-1]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return found


@pytest.mark.parametrize(("num_actors", "threads"), [(1, "6"), (4, "4"), (16, "1"), (40, "1")])
def test_actors_share_the_cores_of_the_cluster(
    num_actors: int, threads: str, priorities: list[int]
) -> None:
    run_in_background(num_actors)
    assert (os.environ["OMP_NUM_THREADS"], priorities) == (threads, [19])


@pytest.mark.usefixtures("priorities")
def test_an_actor_uses_only_the_cores_of_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    run_in_background(1)
    assert os.environ["OMP_NUM_THREADS"] == "2"


def test_without_a_number_of_actors_only_the_priority_is_changed(priorities: list[int]) -> None:
    run_in_background(0)
    assert (os.environ["OMP_NUM_THREADS"], priorities) == ("1", [19])


@pytest.mark.usefixtures("priorities")
def test_a_number_of_threads_set_by_the_user_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert number_to_share(2, 0) == 0
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    run_in_background(1)
    assert os.environ["OMP_NUM_THREADS"] == "3"
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert (number_to_share(2, 0), number_to_share(2, 0.1)) == (2, 0)
