from __future__ import annotations

from pathlib import Path

import pytest

from tests.models.vllm.vllm_names import installed, missing


def test_the_installed_vllm_has_every_name_that_is_used() -> None:
    package = installed()
    if package is None:
        pytest.skip("vLLM is not installed")
    assert list(missing(package)) == []


def test_missing_names_are_reported(tmp_path: Path) -> None:
    file = tmp_path / "v1" / "engine" / "async_llm.py"
    file.parent.mkdir(parents=True)
    file.write_text(
        "class AsyncLLM:\n"
        "    def __init__(self):\n        self.model_config = None\n"
        "    def from_engine_args(cls, engine_args): ...\n"
        "    async def generate(self, prompt, sampling_params, request_id): ...\n"
    )
    found = list(missing(tmp_path))
    wanted = "v1/engine/async_llm.py: AsyncLLM"
    assert [text for text in found if text.startswith(wanted)] == [
        f"{wanted}.from_engine_args(engine_args, usage_context)",
        f"{wanted}.shutdown()",
        f"{wanted}.errored()",
    ]
    assert "sampling_params.py: SamplingParams" in found
    assert "renderers/params.py: 'maximum context length'" in found
