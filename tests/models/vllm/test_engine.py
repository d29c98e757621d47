"""Test the real engine with the demonstration checkpoint of the package."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import psutil
import pytest
from PIL import Image

from skytext.captions.captioner import Ask, Description, EngineCaptioner, Generation
from skytext.captions.parsing import FIELDS, parse_answer
from skytext.config.captioning import CaptionConfig, EngineConfig
from skytext.demo.scenes.generate import HELD_OUT_SEED, make_scene, render
from skytext.errors import Reason, SampleError
from skytext.models.checkpoints import DEMO_CHECKPOINT, caption_model
from skytext.models.fingerprints import prompt_of
from skytext.models.vllm.engine import VllmEngine
from skytext.models.vllm.liveness import LocalEngine
from skytext.models.vllm.processes import EngineProcesses
from skytext.models.vllm.supervisor import SupervisedCaptioner

pytestmark = [
    pytest.mark.vllm,
    # vLLM does not close its socket context. The garbage collector closes it later.
    pytest.mark.filterwarnings("ignore:Unclosed context:ResourceWarning"),
    pytest.mark.skipif(
        not (DEMO_CHECKPOINT / "model.safetensors").is_file(),
        reason="the demonstration checkpoint has no weights yet",
    ),
]

NUM_SCENES = 4


# Use one core. With two cores, the threads of the engine would wait for other test processes.
CORE = str(min(os.sched_getaffinity(0)))
CONFIG = CaptionConfig(engine=EngineConfig(hang_timeout_s=60, cpu_cores=CORE))
KILL_LIMIT_S = 240


@dataclass
class Running:
    """A supervised engine and its event loop.

    Attributes:
        supervisor: supervisor that replaces the engine after a crash.
        runner: runner of the event loop.
        processes: processes of each engine that was started, in order.
    """

    supervisor: SupervisedCaptioner
    runner: asyncio.Runner
    processes: list[EngineProcesses]

    @property
    def captioner(self) -> EngineCaptioner[LocalEngine]:
        """The client of the running engine."""
        found = self.supervisor._captioner
        assert found is not None
        return found

    def generate(self, image: Image.Image, **changes: Any) -> Generation:
        fields: dict[str, Any] = {
            "num_samples": 5,
            "objects_per_answer": 1,
            "temperature": 0.7,
            "max_tokens": 512,
            "seed": None,
        }
        return self.runner.run(self.captioner.engine.generate(image, Ask(**fields | changes)))


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    pytest.importorskip("vllm")
    before = set(psutil.Process().children(recursive=True))
    started: list[EngineProcesses] = []

    def start(processes: EngineProcesses) -> VllmEngine:
        started.append(processes)
        return VllmEngine(CONFIG, caption_model(CONFIG), prompt_of(CONFIG), processes)

    # This process must not fork, because it has threads of the servers of other tests.
    environment = {"VLLM_WORKER_MULTIPROC_METHOD": "spawn"}
    with mock.patch.dict(os.environ, environment), asyncio.Runner() as runner:
        supervisor = SupervisedCaptioner(CONFIG, start)
        try:
            runner.run(supervisor.start())
            core = started[0].alive()
            assert core, "the engine has no process of its own: the check below would say nothing"
            yield Running(supervisor, runner, started)
        finally:
            supervisor.close()
        _, alive = psutil.wait_procs(core, timeout=20)
    gc.collect()
    assert alive == []
    assert [processes.alive() for processes in started] == [[] for _ in started]
    new = set(psutil.Process().children(recursive=True)) - before
    assert [
        child.cmdline() for child in new if "resource_tracker" not in str(child.cmdline())
    ] == []


@pytest.fixture(scope="module")
def scenes() -> list[Image.Image]:
    return [Image.fromarray(render(make_scene(HELD_OUT_SEED + i))) for i in range(NUM_SCENES)]


def test_scenes_get_five_different_variants(running: Running, scenes: list[Image.Image]) -> None:
    async def describe() -> list[Description]:
        ask = running.captioner.describe
        return await asyncio.gather(*(ask(scene, str(i)) for i, scene in enumerate(scenes)))

    for description in running.runner.run(describe()):
        assert len(description.variants) == 5
        assert len({variant.folded() for variant in description.variants}) == 5
        for variant in description.variants:
            assert variant.finish_reason == "stop"
            assert all(getattr(variant, name).strip() for name in FIELDS)
        assert description.num_prompt_tokens > 60
        assert description.num_output_tokens > 5 * 20


def test_every_answer_parses_at_any_temperature(
    running: Running, scenes: list[Image.Image]
) -> None:
    for temperature in (0.7, 1.5):
        generation = running.generate(scenes[0], num_samples=8, temperature=temperature)
        assert len(generation.answers) == 8
        whole = [answer for answer in generation.answers if answer.finish_reason == "stop"]
        assert len(whole) >= 6
        for answer in whole:
            assert len(parse_answer(answer.text, answer.finish_reason)) == 1, answer.text


def test_a_truncated_answer_has_its_finish_reason(
    running: Running, scenes: list[Image.Image]
) -> None:
    (answer,) = running.generate(scenes[0], num_samples=1, max_tokens=4).answers
    assert answer.finish_reason == "length"
    assert parse_answer(answer.text, answer.finish_reason) == []


def test_the_prompt_is_computed_once_for_all_variants(
    running: Running, scenes: list[Image.Image]
) -> None:
    one = running.generate(scenes[1], num_samples=5)
    again = running.generate(scenes[1], num_samples=2)
    assert again.num_prompt_tokens == one.num_prompt_tokens
    assert 0 < again.num_cached_tokens <= again.num_prompt_tokens


def test_a_seed_repeats_an_answer(running: Running, scenes: list[Image.Image]) -> None:
    one, two = (
        [answer.text for answer in running.generate(scenes[2], num_samples=2, seed=7).answers]
        for _ in range(2)
    )
    assert one == two


def test_one_answer_can_hold_several_variants(running: Running, scenes: list[Image.Image]) -> None:
    # The checkpoint writes only one good description per answer. The second description has only
    # the correct form.
    generation = running.generate(
        scenes[0], num_samples=16, objects_per_answer=2, max_tokens=900, temperature=0.5
    )
    assert all(answer.text.startswith('{"variants": [{"one') for answer in generation.answers)
    whole = [answer for answer in generation.answers if answer.finish_reason == "stop"]
    assert whole
    for answer in whole:
        assert len(parse_answer(answer.text, answer.finish_reason)) == 2, answer.text


def test_an_answer_may_be_as_long_as_the_context(
    running: Running, scenes: list[Image.Image]
) -> None:
    # Many variants in one answer can need more tokens than the context length of the model.
    generation = running.generate(scenes[0], num_samples=1, max_tokens=10_000_000)
    assert generation.answers[0].finish_reason in ("stop", "length")
    assert generation.num_prompt_tokens + generation.num_output_tokens <= 4096
    assert running.generate(scenes[0], num_samples=1).answers[0].text


def test_a_too_long_prompt_fails_only_its_image(
    running: Running, scenes: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Any = running.captioner.engine
    long = "USER: <image>\n" + "river " * 2000 + "ASSISTANT:"
    monkeypatch.setitem(engine._prompt_by_objects, 3, long)
    with pytest.raises(SampleError) as caught:
        running.generate(scenes[0], num_samples=1, objects_per_answer=3)
    assert caught.value.reason is Reason.PROMPT_TOO_LONG
    assert running.generate(scenes[0], num_samples=1).answers[0].text


def test_the_engine_reports_its_properties(running: Running) -> None:
    info = running.captioner.engine.info
    assert info.engine_version.startswith("vllm 0.")
    assert info.device
    assert info.precision in ("float32", "bfloat16", "float16")


def test_a_killed_core_is_replaced_and_every_image_described(running: Running) -> None:
    """This test is the last one, because it ends the shared engine."""
    scenes = [Image.fromarray(render(make_scene(HELD_OUT_SEED + i))) for i in range(20)]

    async def describe() -> list[Description]:
        ask = running.supervisor.describe
        calls = [asyncio.ensure_future(ask(scene, str(i))) for i, scene in enumerate(scenes)]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        assert not all(call.done() for call in calls)
        (core,) = (p for p in running.processes[0].alive() if p.name().startswith("VLLM::Engine"))
        core.kill()
        return await asyncio.wait_for(asyncio.gather(*calls), KILL_LIMIT_S)

    descriptions = running.runner.run(describe())
    assert all(len(description.variants) == 5 for description in descriptions)
    assert running.supervisor.num_restarts == 1
    assert running.processes[0].alive() == []
