"""Replace the runtime context of Ray. The tests call stages directly, without Ray."""

from __future__ import annotations

from types import SimpleNamespace

import pytest


@pytest.fixture(autouse=True)
def actor(monkeypatch: pytest.MonkeyPatch) -> str:
    # vLLM uses `runtime_env` if an earlier test has started Ray.
    context = SimpleNamespace(get_actor_id=lambda: "actor-1", runtime_env={})
    monkeypatch.setattr(
        "skytext.run.stages.caption_images.ray.get_runtime_context", lambda: context
    )
    return "actor-1"
