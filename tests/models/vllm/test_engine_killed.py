"""The real engine is killed in the middle of its work, and replaced."""

from __future__ import annotations

import asyncio
import gc
import os
from functools import partial
from unittest import mock

import psutil
import pytest
from PIL import Image

from skytext.captions.captioner import Captioner, Description
from skytext.config.captioning import CaptionConfig, EngineConfig
from skytext.demo.scenes.generate import HELD_OUT_SEED, make_scene, render
from skytext.models.checkpoints import DEMO_CHECKPOINT, caption_model
from skytext.models.factory import make_captioner
from skytext.models.fingerprints import prompt_of
from skytext.models.vllm.processes import EngineProcesses
from skytext.models.vllm.supervisor import EngineSupervisor

pytestmark = [
    pytest.mark.vllm,
    # vLLM leaves the closing of its sockets' context to the collector.
    pytest.mark.filterwarnings("ignore:Unclosed context:ResourceWarning"),
    pytest.mark.skipif(
        not (DEMO_CHECKPOINT / "model.safetensors").is_file(),
        reason="the demonstration checkpoint has no weights yet",
    ),
]

NUM_IMAGES = 20
LIMIT_S = 240
CONFIG = CaptionConfig(num_variants=2, engine=EngineConfig(hang_timeout_s=60))


class Starter:
    """Starts engines and remembers whose processes are whose."""

    def __init__(self) -> None:
        self.started: list[EngineProcesses] = []
        self._make = partial(make_captioner, CONFIG, caption_model(CONFIG), prompt_of(CONFIG))

    def __call__(self, processes: EngineProcesses) -> Captioner:
        self.started.append(processes)
        return self._make(processes)


async def describe(engine: EngineSupervisor, starter: Starter) -> list[Description]:
    scenes = [Image.fromarray(render(make_scene(HELD_OUT_SEED + i))) for i in range(NUM_IMAGES)]
    await engine.start()
    first = starter.started[0].alive()
    assert first, "the engine has no process of its own: nothing would be shown"
    calls = [
        asyncio.ensure_future(engine.describe(scene, str(i))) for i, scene in enumerate(scenes)
    ]
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    assert not all(call.done() for call in calls)
    core = next(process for process in first if process.name().startswith("VLLM::EngineCore"))
    core.kill()
    return await asyncio.wait_for(asyncio.gather(*calls), LIMIT_S)


def test_a_killed_core_is_replaced_and_every_image_described() -> None:
    pytest.importorskip("vllm")
    starter = Starter()
    before = set(psutil.Process().children(recursive=True))
    # A fork of this process would take the threads of other tests' servers half along.
    with (
        mock.patch.dict(os.environ, {"VLLM_WORKER_MULTIPROC_METHOD": "spawn"}),
        asyncio.Runner() as runner,
    ):
        engine = EngineSupervisor(starter, CONFIG.engine)
        try:
            descriptions = runner.run(describe(engine, starter))
        finally:
            engine.close()
    gc.collect()
    assert len(descriptions) == NUM_IMAGES
    assert all(description.variants for description in descriptions)
    assert engine.num_restarts == 1
    assert [processes.alive() for processes in starter.started] == [[], []]
    new = set(psutil.Process().children(recursive=True)) - before
    assert [
        child.cmdline() for child in new if "resource_tracker" not in str(child.cmdline())
    ] == []
