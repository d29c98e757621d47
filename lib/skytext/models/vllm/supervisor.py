"""Keep an engine running, and find images that crash it. This module does not use Ray.

When the engine dies or hangs, the supervisor accepts no new images, and kills all processes of the
engine. The unfinished images are the suspects. A new engine describes one half of the suspects, and
then the other half. If the new engine also dies or hangs, the unfinished images of that half are
split into two halves again. If a newly started engine receives only one image, and dies or hangs,
this image is the cause. Only this image fails, and all other images are described. If no such image
is found, the engine ended for another reason, for example too little memory. In that case no image
fails. After the search, the supervisor accepts new images again.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

from skytext.captions.captioner import (
    BusyClock,
    Description,
    EngineCaptioner,
    EngineDiedError,
    EngineInfo,
)
from skytext.captions.parsing import Variant, parse_answer
from skytext.config.captioning import CaptionConfig
from skytext.errors import CallError, JobError, Reason, SampleError, SkytextError, Stage
from skytext.models.vllm.liveness import Case, EngineLife, Fall, LocalEngine
from skytext.models.vllm.processes import EngineProcesses

logger = logging.getLogger(__name__)

_GO_ON = "committed images are kept; run the same command again to continue"


class SupervisedCaptioner:
    """A `skytext.captions.captioner.Captioner` that has a local engine.

    If the engine dies, the captioner starts a new engine.

    Args:
        config: the caption settings and limits.
        start: a function that starts an engine, and registers the processes of the engine.
        parse: see `EngineCaptioner`.

    Attributes:
        info: device, version and precision of the engines. None until the first engine has started.
        clock: the busy time and the idle time of all engines, including the time for restarts.
        num_restarts: the number of engines that were started to replace the first engine.
    """

    def __init__(
        self,
        config: CaptionConfig,
        start: Callable[[EngineProcesses], LocalEngine],
        parse: Callable[[str, str | None], Sequence[Variant]] = parse_answer,
    ) -> None:
        self.info: EngineInfo | None = None
        self.clock = BusyClock()
        self.num_restarts = 0
        self._make_captioner = lambda noted: EngineCaptioner(start(noted), config, parse)
        self._config = config.engine
        self._life: EngineLife | None = None
        # This lock is held while an engine starts, and while suspects are described again. During
        # this time, new images must wait.
        self._gate = asyncio.Lock()
        self._recovery: asyncio.Task[None] | None = None
        self._restarts_in_a_row = 0
        self._last_fall: Fall | None = None
        self._failure: SkytextError | None = None
        self._processes: EngineProcesses | None = None
        self._captioner: EngineCaptioner[LocalEngine] | None = None
        self._closing = threading.RLock()
        self._closed = False

    async def start(self) -> EngineInfo:
        """Start the first engine if no engine was started yet. Return its device and versions."""
        if self.info is None or self._failure is not None:
            async with self._gate:
                return (await self._running()).captioner.engine.info
        return self.info

    async def describe(self, image: Image.Image, key: str) -> Description:
        """Describe one image. If the engine dies, other engines replace it.

        Raises:
            SampleError: this image cannot be described, or this image makes the engine die or hang.
            CallError: the engine cannot start.
            JobError: too many consecutive engines ended before they described an image.
        """
        case = Case(image, key)
        while True:
            async with self._gate:
                life = await self._running()
                if not life.fall.done():
                    life.take(case)
                    break
            # The engine has ended. Wait, so that the recovery can lock the gate before this method
            # does.
            await asyncio.sleep(0)
        return await case.outcome

    def close(self) -> None:
        """End the engine, and wait until all its processes have ended.

        The method also works while the engine starts. Any thread may call the method, and it may be
        called more than once. Callers that wait for a description get a JobError.
        """
        with self._closing:
            self._closed = True
            if self._processes is not None:
                self._processes.kill()
            if self._captioner is not None:
                self._captioner.close()
            elif self._processes is not None:
                self._processes.end()

    async def _running(self) -> EngineLife:
        """Return the running engine, or start an engine if no engine runs.

        The caller must hold the gate.
        """
        if self._failure is not None:
            raise type(self._failure)(str(self._failure))
        if self._life is None:
            try:
                self._life = await self._start()
            except SkytextError as error:
                self._failure = error
                raise
        return self._life

    async def _start(self) -> EngineLife:
        again = self.info is not None
        while True:
            if again:
                self._count_restart()
            try:
                captioner = await self._start_once()
            except EngineDiedError as error:
                self._last_fall = Fall(Reason.ENGINE_DIED, str(error))
                if not again:
                    raise JobError(
                        "the engine died while it started or while it described a blank test "
                        f"image: {error}"
                    ) from error
                logger.warning("a replacement engine died while it started: %s", error)
            except CallError as error:
                if not again:
                    raise
                raise JobError(f"the engine died and does not start again: {error}") from error
            else:
                return self._live(captioner)

    async def _start_once(self) -> EngineCaptioner[LocalEngine]:
        """Start an engine, and test the engine with a first request."""
        with self._closing:
            self._refuse_if_closed()
            processes = self._processes = EngineProcesses()
            self._captioner = None
        captioner = None
        try:
            # Start the engine in a thread, so that the run can be stopped during the start.
            captioner = await asyncio.to_thread(self._make_captioner, processes)
            with self._closing:
                self._captioner = captioner
                self._refuse_if_closed()
            await self._check(captioner)
        except BaseException:
            processes.kill()
            if captioner is not None:
                captioner.close()
            processes.end()
            raise
        return captioner

    async def _check(self, captioner: EngineCaptioner[LocalEngine]) -> None:
        limit_s = self._config.start_timeout_s
        try:
            await asyncio.wait_for(captioner.start(), limit_s)
        except TimeoutError as error:
            raise EngineDiedError(
                f"the engine did not describe a blank test image within {limit_s:g} s "
                "(caption.engine.start_timeout_s)"
            ) from error

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise JobError("the engine was stopped: the run is ending")

    def _live(self, captioner: EngineCaptioner[LocalEngine]) -> EngineLife:
        processes = self._processes
        if processes is None:
            raise JobError("the engine has no processes")
        # Processes that started during the first request also belong to the engine.
        processes.settle()
        # All engines share one clock, so the time that a restart needs counts as idle time.
        captioner.clock = self.clock
        self.info = captioner.engine.info
        life = EngineLife(captioner, processes, self._config.hang_timeout_s, self._on_answer)
        life.fall.add_done_callback(lambda _: self._on_fall(life))
        return life

    def _on_answer(self) -> None:
        self._restarts_in_a_row = 0

    def _count_restart(self) -> None:
        if self._restarts_in_a_row >= self._config.max_restarts:
            cause = "" if self._last_fall is None else f"; the last cause: {self._last_fall.detail}"
            raise JobError(
                f"the engine ended {self._restarts_in_a_row + 1} times in a row without describing "
                f"one image (caption.engine.max_restarts = {self._config.max_restarts}){cause}; "
                f"{_GO_ON}"
            )
        self._restarts_in_a_row += 1
        self.num_restarts += 1

    def _on_fall(self, life: EngineLife) -> None:
        """Start a recovery for an engine that has ended.

        If a recovery is already running, no second recovery is started, because the running
        recovery also handles this engine.
        """
        if self._recovery is None:
            self._recovery = asyncio.create_task(self._recover(life))

    async def _recover(self, life: EngineLife) -> None:
        async with self._gate:
            waiting = life.in_hand
            try:
                await self._try_in_halves(await self._bury(life))
            except SkytextError as error:
                self._give_up(error, waiting)
            except BaseException as error:
                # This error is a bug in skytext. The callers that wait for images must also get an
                # error.
                what = " ".join(f"{type(error).__name__}: {error}".split())
                self._give_up(JobError(f"the engine could not be replaced: {what}"), waiting)
                raise
            finally:
                self._recovery = None

    def _give_up(self, error: SkytextError, waiting: Sequence[Case]) -> None:
        self._failure = error
        for case in waiting:
            if not case.outcome.done():
                case.outcome.set_exception(type(error)(str(error)))

    async def _bury(self, life: EngineLife) -> list[Case]:
        """End a failed engine, and return its unfinished images."""
        fall = await life.fall
        self._last_fall, self._life = fall, None
        unfinished = await life.end()
        for case in unfinished:
            case.num_falls += 1
        logger.warning(
            "an engine ended with %d unfinished images: %s", len(unfinished), fall.detail
        )
        return unfinished

    async def _try_in_halves(self, suspects: Sequence[Case]) -> None:
        groups = deque(_halves(suspects))
        while groups:
            group = [case for case in groups.popleft() if not case.outcome.done()]
            if not group:
                continue
            life = await self._running()
            was_fresh = life.num_taken == 0
            fall = await _try(life, group)
            if fall is None:
                continue
            unfinished = await self._bury(life)
            if len(group) == 1 and was_fresh:
                _blame(unfinished, fall)
            else:
                groups.extendleft(reversed(_halves(unfinished)))


async def _try(life: EngineLife, group: Sequence[Case]) -> Fall | None:
    """Describe some images with one engine.

    Return why the engine ended, or None if the engine still runs.
    """
    for case in group:
        life.take(case)
    all_done = asyncio.ensure_future(asyncio.wait([case.outcome for case in group]))
    ends: list[asyncio.Future[Any]] = [all_done, life.fall]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    all_done.cancel()
    return life.fall.result() if life.fall.done() else None


def _halves(cases: Sequence[Case]) -> list[Sequence[Case]]:
    middle = (len(cases) + 1) // 2
    return [half for half in (cases[:middle], cases[middle:]) if half]


def _blame(cases: Sequence[Case], fall: Fall) -> None:
    for case in cases:
        if not case.outcome.done():
            detail = (
                f"{fall.detail}; {case.num_falls} engines ended while they described this "
                "image, and the last of these engines had received no other image"
            )
            case.outcome.set_exception(
                SampleError(Stage.CAPTION, fall.reason, detail, attempts=case.num_falls)
            )
