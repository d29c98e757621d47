"""Test that the process of the fake engine is found, can be killed, can hang, and always ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from skytext.captions.captioner import Ask, EngineCaptioner, EngineDiedError, Generation
from skytext.config.captioning import CaptionConfig
from skytext.errors import JobError
from skytext.models.fakes import engine_process as fake_engine_process
from skytext.models.fakes.engine import FakeEngine
from skytext.models.fakes.engine_process import PROCESS_TITLE
from skytext.models.fakes.options import FakeOptions, pixel_digest
from skytext.models.vllm.processes import EngineProcesses

LIB = Path(__file__).parents[3] / "lib"
LIMIT_S = 60
ASK = Ask(num_samples=2, objects_per_answer=1, temperature=0.7, max_tokens=512, seed=None)


def image(number: int) -> Image.Image:
    return Image.new("RGB", (4, 4), (number % 256, number // 256, 0))


def fakes_of(process: psutil.Process) -> list[psutil.Process]:
    return [
        child
        for child in process.children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE and PROCESS_TITLE in child.cmdline()
    ]


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    assert fakes_of(psutil.Process()) == []


async def ask(engine: FakeEngine, *numbers: int) -> list[Generation | BaseException]:
    calls = (engine.generate(image(number), ASK) for number in numbers)
    return await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), LIMIT_S)


def test_the_fake_engine_starts_fast_and_its_process_is_found() -> None:
    started = time.monotonic()
    engine = FakeEngine(FakeOptions())
    took_s = time.monotonic() - started
    (process,) = fakes_of(psutil.Process())
    engine.close()
    assert not process.is_running()
    assert took_s < 3, "it loads more than a process that waits needs"
    engine.close()


def test_the_fake_engine_imports_only_the_standard_library() -> None:
    program = (
        "import runpy, sys; before = set(sys.modules); "
        f"runpy.run_path({fake_engine_process.__file__!r}); "
        "names = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "print(names - set(sys.stdlib_module_names))"
    )
    process = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "set()"


def test_images_in_work_fail_if_the_process_is_killed() -> None:
    engine = FakeEngine(FakeOptions(delay_s=0.2))
    (process,) = fakes_of(psutil.Process())

    async def kill_meanwhile() -> list[Generation | BaseException]:
        asyncio.get_running_loop().call_later(0.05, process.kill)
        return await ask(engine, 1, 2, 3)

    for error in asyncio.run(kill_meanwhile()):
        assert isinstance(error, EngineDiedError)
        assert f"process {process.pid} of the fake engine ended because of signal 9" in str(error)
    (later,) = asyncio.run(ask(engine, 4))
    assert isinstance(later, EngineDiedError)
    engine.close()


def test_the_fake_engine_dies_on_configured_images() -> None:
    digest = pixel_digest(image(5))
    engine = FakeEngine(FakeOptions(die_on=f"{'0' * 64}+{digest[:12]}"))
    before = asyncio.run(ask(engine, *range(5)))
    assert all(isinstance(outcome, Generation) for outcome in before)
    (outcome,) = asyncio.run(ask(engine, 5))
    assert isinstance(outcome, EngineDiedError)
    engine.close()


def test_the_fake_engine_hangs_on_configured_images() -> None:
    engine = FakeEngine(FakeOptions(hang_on=pixel_digest(image(5))))

    async def wait_in_vain() -> None:
        assert isinstance((await ask(engine, 1))[0], Generation)
        for number in (5, 1):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(engine.generate(image(number), ASK), 0.1)

    asyncio.run(wait_in_vain())
    (process,) = fakes_of(psutil.Process())
    assert process.is_running()
    engine.close()


@pytest.mark.parametrize("what", ["die", "hang"])
def test_the_share_of_deadly_images_does_not_depend_on_the_batch(what: str) -> None:
    bad = [i for i in range(200) if int(pixel_digest(image(i))[:8], 16) / 2**32 >= 0.98]
    assert 0 < len(bad) < 15
    engine = FakeEngine(FakeOptions.parse(f"fake:{what}=0.02"))
    good = [i for i in range(200) if i not in bad]
    assert all(isinstance(outcome, Generation) for outcome in asyncio.run(ask(engine, *good)))
    with pytest.raises((EngineDiedError, TimeoutError)):
        asyncio.run(asyncio.wait_for(engine.generate(image(bad[0]), ASK), 0.5))
    engine.close()


@pytest.mark.parametrize("state", ["idle", "hung", "starting"])
def test_the_fake_engine_ends_with_its_parent_process(state: str) -> None:
    options = {"idle": "", "hung": "hang=1", "starting": "start_s=1000"}[state]
    program = (
        "import asyncio, threading\n"
        "from PIL import Image\n"
        "from skytext.captions.captioner import Ask\n"
        "from skytext.models.fakes.engine import FakeEngine, FakeOptions\n"
        "def work():\n"
        f"    engine = FakeEngine(FakeOptions.parse('fake:{options}'))\n"
        "    ask = Ask(1, 1, 0.7, 512, None)\n"
        "    asyncio.run(engine.generate(Image.new('RGB', (4, 4)), ask))\n"
        "    print('answered', flush=True)\n"
        "    threading.Event().wait()\n"
        "work()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(LIB)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    try:
        deadline = time.monotonic() + LIMIT_S
        while not (found := fakes_of(psutil.Process(parent.pid))):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        if state == "idle":
            assert parent.stdout.readline() == "answered\n"
        else:
            time.sleep(0.2)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    _, alive = psutil.wait_procs(found, timeout=10)
    assert alive == []


def test_a_start_that_takes_too_long_is_aborted() -> None:
    processes = EngineProcesses()
    started = time.monotonic()
    with pytest.raises(
        JobError, match=r"did not start within caption.engine.start_timeout_s \(0.3 s\)"
    ):
        FakeEngine(FakeOptions(start_s=1000), processes, 0.3)
    assert time.monotonic() - started < 10
    assert processes.alive() == []


def test_a_start_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_engine_process, "__file__", "/nonexistent.py")
    with pytest.raises(EngineDiedError, match="ended with status 2"):
        FakeEngine(FakeOptions())


def test_a_stopped_process_is_ended_too() -> None:
    engine = FakeEngine(FakeOptions())
    (process,) = fakes_of(psutil.Process())
    process.send_signal(signal.SIGSTOP)
    engine.close()
    assert not process.is_running()


def test_more_images_than_both_pipes_hold_are_described() -> None:
    engine = FakeEngine(FakeOptions())
    captioner = EngineCaptioner(engine, CaptionConfig())
    num_images = 2000

    async def describe() -> int:
        # Describe all images at the same time.
        all_of_them = (captioner.describe(image(i), str(i)) for i in range(num_images))
        return sum(bool(found.variants) for found in await asyncio.gather(*all_of_them))

    assert asyncio.run(describe()) == num_images
    engine.close()
