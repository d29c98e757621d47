"""Test the supervisor with engines that crash and hang. Each engine is a set of futures in this
process."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from PIL import Image

from skytext.captions.captioner import (
    Answer,
    Ask,
    Description,
    EngineDiedError,
    EngineInfo,
    Generation,
)
from skytext.captions.parsing import FIELDS, Variant
from skytext.config.captioning import CaptionConfig, EngineConfig
from skytext.errors import (
    JobError,
    ModelError,
    Reason,
    SampleError,
    Stage,
)
from skytext.models.vllm.processes import EngineProcesses
from skytext.models.vllm.supervisor import SupervisedCaptioner

HANG_S = 0.2
Outcome = Description | BaseException


@dataclass
class World:
    """The behaviour of images and engines.

    Attributes:
        deadly: keys of images that end the engine.
        hanging: keys of images that hang the engine.
        refused: keys of images that the engine refuses.
        broken: keys of images for which the engine raises an unexpected error.
        bad_starts: errors of the starts, by the number of the start.
        on_check: called with the number of the engine when the engine is checked with a request.
        engines: the started engines. ``Engine.lot`` contains the keys given to an engine.
    """

    deadly: set[str] = field(default_factory=set)
    hanging: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    bad_starts: dict[int, Exception] = field(default_factory=dict)
    on_check: Callable[[int], None] = lambda _: None
    engines: list[Engine] = field(default_factory=list)
    num_starts: int = 0
    loop: Any = None

    def start(self, processes: EngineProcesses) -> Any:
        number = self.num_starts
        self.num_starts += 1
        if number in self.bad_starts:
            raise self.bad_starts[number]
        assert all(engine.closed for engine in self.engines), "two engines at once"
        self.engines.append(Engine(self, number))
        return self.engines[-1]


class Engine:
    info = EngineInfo("scripted", "cpu", "none")

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number = world, number
        self.lot: list[str] = []
        self.num_signs = 0
        self.closed = False
        self.hung = False
        self.death: asyncio.Future[None] = world.loop.create_future()

    async def check(self) -> None:
        self.world.on_check(self.number)

    def close(self) -> None:
        self.closed = True
        self.die()

    def die(self) -> None:
        if not self.death.done():
            self.death.get_loop().call_soon_threadsafe(
                lambda: self.death.done() or self.death.set_result(None)
            )

    async def generate(self, image: Image.Image, _: Ask) -> Generation:
        key = image.info["key"]
        self.lot.append(key)
        await self._pass(random.Random(key).uniform(0.001, 0.003))
        if key in self.world.deadly:
            self.death.done() or self.death.set_result(None)
        self.hung |= key in self.world.hanging
        await self._pass(1e9 if self.hung else 0)
        self.num_signs += 1
        if key in self.world.refused:
            raise SampleError(Stage.CAPTION, Reason.PROMPT_TOO_LONG, "long")
        if key in self.world.broken:
            raise ZeroDivisionError(key)
        return Generation([Answer(json.dumps(dict.fromkeys(FIELDS, key)), "stop")], 1, 0, 1)

    async def _pass(self, seconds: float) -> None:
        sleep = asyncio.ensure_future(asyncio.sleep(seconds))
        await asyncio.wait([sleep, self.death], return_when=asyncio.FIRST_COMPLETED)
        sleep.cancel()
        if self.death.done():
            raise EngineDiedError("the scripted engine died")


def picture(key: str) -> Image.Image:
    image = Image.new("RGB", (8, 8))
    image.info["key"] = key
    return image


def description(key: str) -> Description:
    return Description((Variant(key, key, key, "stop"),), 1, 1, 0, 1)


def supervisor(world: World, **settings: Any) -> SupervisedCaptioner:
    world.loop = asyncio.get_running_loop()
    engine = EngineConfig(**{"hang_timeout_s": HANG_S} | settings)
    return SupervisedCaptioner(CaptionConfig(num_variants=1, engine=engine), world.start)


async def describe_all(
    engine: SupervisedCaptioner, keys: Iterable[str], at_once: int = 1000
) -> list[Outcome]:
    admitted = asyncio.Semaphore(at_once)

    async def one(key: str) -> Description:
        async with admitted:
            return await engine.describe(picture(key), key)

    return await asyncio.gather(*(one(key) for key in keys), return_exceptions=True)


def names(count: int) -> list[str]:
    return [f"image-{i}" for i in range(count)]


def run(
    world: World, keys: Sequence[str], at_once: int = 1000, **settings: Any
) -> tuple[SupervisedCaptioner, dict[str, Outcome]]:
    async def main() -> tuple[SupervisedCaptioner, dict[str, Outcome]]:
        engine = supervisor(world, **settings)
        outcomes = await asyncio.wait_for(describe_all(engine, keys, at_once), 60)
        engine.close()
        await asyncio.sleep(0)
        return engine, dict(zip(keys, outcomes, strict=True))

    return asyncio.run(main())


def blamed(outcomes: dict[str, Outcome], reason: Reason) -> set[str]:
    return {
        key
        for key, outcome in outcomes.items()
        if isinstance(outcome, SampleError) and outcome.reason is reason
    }


def described(outcomes: dict[str, Outcome]) -> set[str]:
    return {key for key, outcome in outcomes.items() if outcome == description(key)}


def test_an_engine_that_lives_is_never_replaced() -> None:
    world = World(refused={"image-3"})
    engine, outcomes = run(world, names(50))
    assert described(outcomes) == set(names(50)) - {"image-3"}
    assert blamed(outcomes, Reason.PROMPT_TOO_LONG) == {"image-3"}
    assert (world.num_starts, engine.num_restarts) == (1, 0)
    assert world.engines[0].closed


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("which", ["first", "last", "middle"])
def test_the_image_that_ends_the_engine_is_found(count: int, which: str) -> None:
    keys = names(count)
    culprit = keys[{"first": 0, "last": -1, "middle": count // 2}[which]]
    world = World(deadly={culprit})
    engine, outcomes = run(world, keys)
    assert blamed(outcomes, Reason.ENGINE_DIED) == {culprit}
    assert described(outcomes) == set(keys) - {culprit}
    # One restart is needed for each bisection step, one for the trial on a fresh engine, and one
    # for a used engine.
    assert engine.num_restarts <= (count - 1).bit_length() + 3
    assert all(started.closed for started in world.engines)


def test_a_failed_image_reports_the_cause() -> None:
    _, outcomes = run(World(deadly={"image-5"}), names(20))
    error = outcomes["image-5"]
    assert isinstance(error, SampleError)
    assert error.stage is Stage.CAPTION
    assert error.attempts >= 2
    assert "the scripted engine died" in error.detail
    assert f"{error.attempts} engines ended while they described this image" in error.detail


@pytest.mark.parametrize("at_once", [1, 8, 50])
def test_all_deadly_images_among_many_are_found(at_once: int) -> None:
    keys = names(400)
    deadly = set(random.Random(at_once).sample(keys, 6)) | {"image-100", "image-101", "image-102"}
    engine, outcomes = run(World(deadly=deadly), keys, at_once)
    assert blamed(outcomes, Reason.ENGINE_DIED) == deadly
    assert described(outcomes) == set(keys) - deadly
    assert engine.num_restarts < 9 * 10


def test_no_image_fails_if_the_engine_is_killed_from_outside() -> None:
    world = World()

    async def main() -> tuple[SupervisedCaptioner, list[Outcome]]:
        engine = supervisor(world)
        work = asyncio.create_task(describe_all(engine, names(300), 20))
        for _ in range(3):
            await asyncio.sleep(0.01)
            # Wait for a second image. If a fresh engine ends with a single image, this image counts
            # as the cause.
            while len(world.engines[-1].lot) < 2 and not work.done():
                await asyncio.sleep(0)
            world.engines[-1].die()
        return engine, await asyncio.wait_for(work, 60)

    engine, outcomes = asyncio.run(main())
    assert outcomes == [description(key) for key in names(300)]
    assert 1 <= engine.num_restarts <= 3
    assert engine.num_restarts == world.num_starts - 1


def test_an_image_alone_in_work_is_not_blamed_for_an_engine_that_was_killed() -> None:
    world = World()

    async def main() -> Description:
        engine = supervisor(world)
        work = asyncio.create_task(engine.describe(picture("a"), "a"))
        await asyncio.sleep(0)
        while not world.engines or not world.engines[0].lot:
            await asyncio.sleep(0)
        world.engines[0].die()
        return await work

    assert asyncio.run(main()) == description("a")
    assert world.num_starts == 2


def test_the_image_at_which_the_engine_hangs_is_found() -> None:
    keys = names(12)
    started = time.monotonic()
    _, outcomes = run(World(hanging={"image-4"}), keys)
    assert blamed(outcomes, Reason.ENGINE_HUNG) == {"image-4"}
    assert described(outcomes) == set(keys) - {"image-4"}
    error = outcomes["image-4"]
    assert isinstance(error, SampleError)
    assert "made no progress for 0.2 s" in error.detail
    assert time.monotonic() - started < 12 * 2 * HANG_S


def test_deadly_and_hanging_images_get_different_reasons() -> None:
    keys = names(30)
    _, outcomes = run(World(deadly={"image-3", "image-20"}, hanging={"image-9"}), keys)
    assert blamed(outcomes, Reason.ENGINE_DIED) == {"image-3", "image-20"}
    assert blamed(outcomes, Reason.ENGINE_HUNG) == {"image-9"}
    assert len(described(outcomes)) == 27


def test_an_engine_without_work_may_be_silent() -> None:
    world = World()

    async def main() -> None:
        engine = supervisor(world, hang_timeout_s=0.05)
        await engine.describe(picture("a"), "a")
        await asyncio.sleep(0.3)
        await engine.describe(picture("b"), "b")

    asyncio.run(main())
    assert world.num_starts == 1


def test_a_cancelled_image_is_dropped() -> None:
    world = World(hanging={"a"})

    async def main() -> None:
        engine = supervisor(world, hang_timeout_s=0.5)
        task = asyncio.create_task(engine.describe(picture("a"), "a"))
        # Wait for the request, because the limit counts from the request. On a busy machine, the
        # start can take longer than the limit.
        while not (world.engines and world.engines[0].lot):
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.8)

    asyncio.run(main())
    assert world.num_starts == 1


def test_no_new_images_are_admitted_during_recovery() -> None:
    keys = names(20)
    world = World(deadly={"image-0"})
    _, outcomes = run(world, keys, at_once=10)
    assert described(outcomes) == set(keys) - {"image-0"}
    tried = [set(engine.lot) for engine in world.engines[1:-1]]
    assert all(lot <= set(keys[:12]) for lot in tried)
    assert world.engines[-2].lot == ["image-0"] or world.engines[-1].lot[0] != "image-0"


@pytest.mark.parametrize("max_restarts", [0, 1, 20])
def test_an_engine_that_dies_on_everything_ends_the_job(max_restarts: int) -> None:
    keys = names(100)
    engine, outcomes = run(World(deadly=set(keys)), keys, max_restarts=max_restarts)
    assert engine.num_restarts == max_restarts
    errors = [outcome for outcome in outcomes.values() if isinstance(outcome, JobError)]
    assert len(errors) >= 80
    message = str(errors[0])
    assert f"ended {max_restarts + 1} times in a row" in message
    assert f"caption.engine.max_restarts = {max_restarts}" in message
    assert "\n" not in message
    assert {str(error) for error in errors} == {message}


def test_refusals_do_not_keep_a_dying_engine_going() -> None:
    keys = names(200)
    refused = set(keys[::2])
    engine, _ = run(World(deadly=set(keys) - refused, refused=refused), keys, max_restarts=5)
    assert engine.num_restarts == 5


def test_an_engine_that_dies_at_its_start_again_and_again_ends_the_job() -> None:
    starts: dict[int, Exception] = {i: EngineDiedError("out of memory") for i in range(1, 99)}
    world = World(deadly={"image-2"}, bad_starts=starts)
    _, outcomes = run(world, names(5), max_restarts=4)
    errors = [outcome for outcome in outcomes.values() if isinstance(outcome, JobError)]
    assert errors
    assert "out of memory" in str(errors[0])
    assert world.num_starts == 5


def test_a_restart_that_fails_once_is_tried_again() -> None:
    world = World(deadly={"image-2"}, bad_starts={1: EngineDiedError("not yet")})
    _, outcomes = run(world, names(5))
    assert described(outcomes) == set(names(5)) - {"image-2"}


def test_an_engine_that_cannot_start_is_not_started_for_every_image() -> None:
    world = World(bad_starts={0: ModelError("no such checkpoint")})
    _, outcomes = run(world, names(30))
    assert {str(outcome) for outcome in outcomes.values()} == {"no such checkpoint"}
    assert {type(outcome) for outcome in outcomes.values()} == {ModelError}
    assert world.num_starts == 1


def test_a_checkpoint_lost_during_the_run_is_a_job_error() -> None:
    world = World(deadly={"image-0"}, bad_starts={1: ModelError("no such checkpoint")})
    _, outcomes = run(world, names(3))
    errors = [outcome for outcome in outcomes.values() if isinstance(outcome, JobError)]
    assert errors
    assert "does not start again: no such checkpoint" in str(errors[0])


def test_an_engine_that_dies_on_a_blank_image_is_not_tried_on_others() -> None:
    def die(_: int) -> None:
        raise EngineDiedError("gone")

    world = World(on_check=die)
    _, outcomes = run(world, names(3))
    assert {type(outcome) for outcome in outcomes.values()} == {JobError}
    assert "while it described a blank test image: gone" in str(outcomes["image-0"])
    assert world.engines[0].closed
    assert world.num_starts == 1


def test_an_internal_error_during_a_restart_reaches_all_callers() -> None:
    world = World(deadly={"image-0"}, bad_starts={1: ZeroDivisionError("bug")})
    _, outcomes = run(world, names(9))
    errors = [outcome for outcome in outcomes.values() if isinstance(outcome, JobError)]
    assert errors
    assert "could not be replaced: ZeroDivisionError: bug" in str(errors[0])


def test_an_internal_error_is_reported_and_keeps_the_engine() -> None:
    world = World(broken={"image-1"})
    _, outcomes = run(world, names(4))
    assert isinstance(outcomes["image-1"], ZeroDivisionError)
    assert len(described(outcomes)) == 3
    assert world.num_starts == 1


def test_close_from_another_thread_fails_all_callers() -> None:
    world = World(hanging={"image-0"})

    async def main() -> list[Outcome]:
        engine = supervisor(world, hang_timeout_s=60)
        work = asyncio.create_task(describe_all(engine, names(10), 5))
        await asyncio.sleep(0.05)
        thread = threading.Thread(target=engine.close)
        thread.start()
        outcomes = await asyncio.wait_for(work, 30)
        thread.join()
        engine.close()
        return outcomes

    outcomes = asyncio.run(main())
    assert any(isinstance(outcome, JobError) for outcome in outcomes)
    assert all(isinstance(o, JobError | Description) for o in outcomes)
    assert "the run is ending" in str(next(o for o in outcomes if isinstance(o, JobError)))
    assert world.num_starts == 1


def test_closed_before_the_first_image_no_engine_starts() -> None:
    world = World()

    async def main() -> None:
        engine = supervisor(world)
        engine.close()
        with pytest.raises(JobError, match="the run is ending"):
            await engine.start()

    asyncio.run(main())
    assert world.num_starts == 0


def test_the_clock_continues_over_a_restart() -> None:
    engine, outcomes = run(World(deadly={"image-3"}), names(20), at_once=4)
    assert len(described(outcomes)) == 19
    assert engine.clock.span_s > 0.005
    assert 0 <= engine.clock.idle_s <= engine.clock.span_s
