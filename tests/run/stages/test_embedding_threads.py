"""Test the number of threads of an embedding actor."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import ray

from skytext.run.stages.embedding_threads import use_idle_cores


@pytest.fixture
def actor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate an actor with half a CPU.

    The cluster has 16 CPUs, and the machine has 8 cores.
    """
    context = SimpleNamespace(get_assigned_resources=lambda: {"CPU": 0.5})
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 16.0})
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.usefixtures("actor")
@pytest.mark.parametrize(("num_actors", "threads"), [(1, "8"), (4, "4"), (16, "1"), (40, "1")])
def test_actors_share_the_cores_of_the_cluster(num_actors: int, threads: str) -> None:
    use_idle_cores(num_actors)
    assert os.environ["OMP_NUM_THREADS"] == threads


@pytest.mark.usefixtures("actor")
def test_a_number_of_threads_set_by_the_user_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    use_idle_cores(1)
    assert os.environ["OMP_NUM_THREADS"] == "3"
