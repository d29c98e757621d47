"""Keep an engine running, and find the image that crashes it (no Ray).

When the engine dies or hangs, no new images are admitted, and all processes of the engine are
killed. The unfinished images are the suspects. A new engine describes one half of the suspects, and
then the other half. If a half also ends the new engine, its unfinished images are split into halves
again. An image that is alone in a newly started engine and ends this engine is the cause: only this
image fails. All other images get their descriptions. If no image ends an engine in this way, the
cause was something else (out of memory, for example), and no image fails. Then normal work
continues.
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
    """A `skytext.captions.captioner.Captioner` with a local engine; it replaces a dead engine.

    Args:
        config: the caption settings and limits.
        start: a function that starts an engine and registers its processes.
        parse: see `EngineCaptioner`.

    Attributes:
        info: description of the engines; None until an engine was started.
        clock: busy and idle time of the engines, including restarts.
        num_restarts: number of engines that were started after the first engine.
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
        # This lock is held while an engine starts and while suspects are tried. During this time no
        # new image is admitted.
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
        """Start the first engine, unless an engine was already started; return its description."""
        if self.info is None or self._failure is not None:
            async with self._gate:
                return (await self._running()).captioner.engine.info
        return self.info

    async def describe(self, image: Image.Image, key: str) -> Description:
        """Describe one image. If the engine dies, other engines replace it.

        Raises:
            SampleError: this image cannot be described, or it crashes the engine.
            CallError: the engine cannot start.
            JobError: too many engines in a row ended before they described an image.
        """
        case = Case(image, key)
        while True:
            async with self._gate:
                life = await self._running()
                if not life.fall.done():
                    life.take(case)
                    break
            # The engine has ended, so let the recovery lock the gate first.
            await asyncio.sleep(0)
        return await case.outcome

    def close(self) -> None:
        """End the engine, and wait until all its processes have ended.

        The engine may still be starting. Any thread may call this method, also more than once.
        Callers that wait for a description get a JobError.
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
        """Return the running engine, or start an engine. The caller must have locked the gate."""
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
                logger.warning("a new engine died while it started: %s", error)
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
            # Use a thread, so that the run can be stopped while the engine starts.
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
        # All engines use the same clock, so the time of a restart counts as idle time.
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
        """Start a recovery. If a recovery is in progress, it also handles this engine's end."""
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
                # This is a bug in skytext. The waiting callers must also get the error.
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
    """Describe some images. Return the end of the engine, or None if the engine still runs."""
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
                f"{fall.detail}; {case.num_falls} engines ended while they described this image; "
                "for the last engine it was the first and only image"
            )
            case.outcome.set_exception(
                SampleError(Stage.CAPTION, fall.reason, detail, attempts=case.num_falls)
            )
