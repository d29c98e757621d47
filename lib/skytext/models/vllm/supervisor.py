"""Keep an engine running, and find the image that crashes it (no Ray).

When the engine dies or hangs, no new images are admitted. The engine and all its processes are
ended. The images it was working on, the suspects, are described again in halves by a new engine. If
a half ends this engine too, it is halved again; the other images get their descriptions. An image
that, alone, ends a freshly started engine is the cause, and only this image fails. If all suspects
pass, the cause was elsewhere (out of memory, for example), and no image fails. Then normal work
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

_GO_ON = "committed work is kept; run the same command again to continue"


class SupervisedCaptioner:
    """A `skytext.captions.captioner.Captioner` that replaces its local engine when it dies.

    Args:
        config: the caption settings and limits.
        start: starts an engine and registers its processes.
        parse: see `EngineCaptioner`.

    Attributes:
        info: description of the engines; None until one was started.
        clock: busy and idle time of the engines, including restarts.
        num_restarts: engines started after the first.
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
        # Held while an engine starts and while suspects are tried; no image is admitted meanwhile.
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
        """Start the first engine, if none was started yet; return its description."""
        if self.info is None or self._failure is not None:
            async with self._gate:
                return (await self._running()).captioner.engine.info
        return self.info

    async def describe(self, image: Image.Image, key: str) -> Description:
        """Describe one image; the engine may be replaced several times.

        Raises:
            SampleError: this image cannot be described, or it crashes the engine.
            CallError: the engine cannot start.
            JobError: no engine lives long enough to describe an image.
        """
        case = Case(image, key)
        while True:
            async with self._gate:
                life = await self._running()
                if not life.fall.done():
                    life.take(case)
                    break
            # The recovery must get the gate before any new caller.
            await asyncio.sleep(0)
        return await case.outcome

    def close(self) -> None:
        """End the engine and all its processes, even during its start, and wait for their end.

        From any thread, repeatable. Calls that wait for a description get a JobError.
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
        """Return the engine; starts one if necessary. The caller holds the gate."""
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
                        f"the engine died at its start or at a blank image: {error}"
                    ) from error
                logger.warning("a new engine died at its start: %s", error)
            except CallError as error:
                if not again:
                    raise
                raise JobError(f"the engine died and does not start again: {error}") from error
            else:
                return self._live(captioner)

    async def _start_once(self) -> EngineCaptioner[LocalEngine]:
        """Start an engine, and test it with a first request."""
        with self._closing:
            self._refuse_if_closed()
            processes = self._processes = EngineProcesses()
            self._captioner = None
        captioner = None
        try:
            # In a thread, so that the run can be stopped meanwhile.
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
                f"it did not answer its first request, a blank image, within {limit_s:g} s "
                "(caption.engine.start_timeout_s)"
            ) from error

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise JobError("the engine was stopped: the run is ending")

    def _live(self, captioner: EngineCaptioner[LocalEngine]) -> EngineLife:
        processes = self._processes
        if processes is None:
            raise JobError("an engine without processes")
        # Processes started by its first request belong to it, too.
        processes.settle()
        # One clock for all engines: the time of a restart is idle time.
        captioner.clock = self.clock
        self.info = captioner.engine.info
        life = EngineLife(captioner, processes, self._config.hang_timeout_s, self._on_answer)
        life.fall.add_done_callback(lambda _: self._on_fall(life))
        return life

    def _on_answer(self) -> None:
        self._restarts_in_a_row = 0

    def _count_restart(self) -> None:
        if self._restarts_in_a_row >= self._config.max_restarts:
            cause = "" if self._last_fall is None else f"; the last time: {self._last_fall.detail}"
            raise JobError(
                f"the engine ended {self._restarts_in_a_row + 1} times in a row without describing "
                f"one image (caption.engine.max_restarts = {self._config.max_restarts}){cause}; "
                f"{_GO_ON}"
            )
        self._restarts_in_a_row += 1
        self.num_restarts += 1

    def _on_fall(self, life: EngineLife) -> None:
        """Start a recovery, unless one is in progress and handles the end of the engine itself."""
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
                # An error in our code; waiting callers must get it too.
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
        """End a failed engine; return its unfinished images."""
        fall = await life.fall
        self._last_fall, self._life = fall, None
        unfinished = await life.end()
        for case in unfinished:
            case.num_falls += 1
        logger.warning("an engine ended with %d images in work: %s", len(unfinished), fall.detail)
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
    """Describe some images; return the end of the engine, or None if it is alive."""
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
                f"{fall.detail}; {case.num_falls} engines ended with this image in work, the last "
                "one just started and with no other"
            )
            case.outcome.set_exception(
                SampleError(Stage.CAPTION, fall.reason, detail, attempts=case.num_falls)
            )
