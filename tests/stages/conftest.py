"""Stages are called here as they are: an actor's id is all that they ask Ray for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest


@pytest.fixture(autouse=True)
def actor(monkeypatch: pytest.MonkeyPatch) -> str:
    context = SimpleNamespace(get_actor_id=lambda: "actor-1")
    monkeypatch.setattr("skytext.stages.caption.ray.get_runtime_context", lambda: context)
    return "actor-1"
