"""Stages are called directly. The only thing that they need from Ray is an actor id."""

from __future__ import annotations

from types import SimpleNamespace

import pytest


@pytest.fixture(autouse=True)
def actor(monkeypatch: pytest.MonkeyPatch) -> str:
    # vLLM uses the second one if an earlier test has started Ray.
    context = SimpleNamespace(get_actor_id=lambda: "actor-1", runtime_env={})
    monkeypatch.setattr(
        "skytext.run.stages.caption_images.ray.get_runtime_context", lambda: context
    )
    # A stage lowers the priority of its process; here that would be the test process.
    monkeypatch.setattr("skytext.run.stages.embed_text.os.setpriority", lambda *_: None)
    return "actor-1"
