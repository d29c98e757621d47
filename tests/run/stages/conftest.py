"""Stages are called here as they are: an actor's id is all that they ask Ray for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest


@pytest.fixture(autouse=True)
def actor(monkeypatch: pytest.MonkeyPatch) -> str:
    # vLLM looks at the second, where a test before has started Ray.
    context = SimpleNamespace(get_actor_id=lambda: "actor-1", runtime_env={})
    monkeypatch.setattr(
        "skytext.run.stages.caption_images.ray.get_runtime_context", lambda: context
    )
    # A stage lowers the priority of its actor's process; this one is not its actor's.
    monkeypatch.setattr("skytext.run.stages.embed_text.os.setpriority", lambda *_: None)
    return "actor-1"
