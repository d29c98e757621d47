"""One engine from its start to its end: what it has in hand, and whether it still answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from PIL import Image

from skytext.captions.captioner import Description, Engine, EngineCaptioner, EngineDiedError
from skytext.errors import Reason, SampleError
from skytext.models.vllm.processes import EngineProcesses

_TICKS = 10
_MAX_TICK_S = 1.0
_CANCEL_S = 10.0


class LocalEngine(Engine, Protocol):
    """An engine in processes of this machine.

    Attributes:
        num_signs: signs of life so far: grows with every answer, and every few tokens of one.
    """

    num_signs: int


@dataclass(eq=False, slots=True)
class Case:
    """One image that somebody waits for.

    Attributes:
        image: RGB.
        key: names it for the captioner.
        outcome: what became of it.
        num_falls: engines that ended with it in hand.
    """

    image: Image.Image
    key: str
    outcome: asyncio.Future[Description] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    num_falls: int = 0


@dataclass(frozen=True, slots=True)
class Fall:
    """How an engine ended: a code and words."""

    reason: Reason
    detail: str


class EngineLife:
    """A running engine.

    Args:
        captioner: speaks with it.
        processes: the engine's.
        hang_timeout_s: without a sign of life for so long while it has work, it counts as hung.
        on_answer: called whenever it has answered for an image; a refusal may be its front end's.

    Attributes:
        fall: how it ended; not done while it runs.
        num_taken: images given to it so far.
    """

    def __init__(
        self,
        captioner: EngineCaptioner[LocalEngine],
        processes: EngineProcesses,
        hang_timeout_s: float,
        on_answer: Callable[[], None],
    ) -> None:
        self.captioner = captioner
        self.num_taken = 0
        self.fall: asyncio.Future[Fall] = asyncio.get_running_loop().create_future()
        self._processes = processes
        self._hang_timeout_s = hang_timeout_s
        self._on_answer = on_answer
        self._in_hand: dict[Case, asyncio.Task[Description]] = {}
        self._watcher = asyncio.create_task(self._watch())

    def take(self, case: Case) -> None:
        """Put an image into the engine's hands; its outcome is set when it is done."""
        self.num_taken += 1
        task = asyncio.create_task(self.captioner.describe(case.image, case.key))
        self._in_hand[case] = task
        task.add_done_callback(lambda task: self._done(case, task))
        case.outcome.add_done_callback(lambda _: self._put_down(case))

    @property
    def in_hand(self) -> list[Case]:
        """The images that it has not finished, in the order in which they came."""
        return list(self._in_hand)

    async def end(self) -> list[Case]:
        """End the engine and all its processes; return the images that it has not finished.

        Raises:
            JobError: a process does not end.
        """
        self._watcher.cancel()
        if not self.fall.done():
            self.fall.set_result(Fall(Reason.ENGINE_DIED, "the engine was ended"))
        self._processes.kill()
        tasks = [task for task in self._in_hand.values() if task.cancel()]
        if tasks:
            # Bounded: what waits for an engine that is gone may not hear that it is to stop.
            await asyncio.wait(tasks, timeout=_CANCEL_S)
        # Blocks the loop on purpose: without an engine nothing can go on.
        self.captioner.close()
        return self.in_hand

    def _done(self, case: Case, task: asyncio.Task[Description]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if case.outcome.done():
            return
        if isinstance(error, EngineDiedError):
            self._fall(Reason.ENGINE_DIED, str(error))
        elif error is None:
            case.outcome.set_result(task.result())
            self._on_answer()
        elif isinstance(error, SampleError):
            case.outcome.set_exception(error)
            if error.reason is Reason.NO_GOOD_VARIANT:
                self._on_answer()
        elif not self.fall.done():
            # A fault of ours, not of the engine. Of an engine that is gone, any error may come.
            case.outcome.set_exception(error)

    def _put_down(self, case: Case) -> None:
        """Stop work on an image that is done, or that nobody waits for any more."""
        task = self._in_hand.pop(case, None)
        if task is not None:
            task.cancel()

    def _fall(self, reason: Reason, detail: str) -> None:
        if not self.fall.done():
            self.fall.set_result(Fall(reason, detail))

    async def _watch(self) -> None:
        """Notice an engine that has work and gives no sign of life.

        Counted in turns of this loop, not by the clock: while this process itself stands still, the
        engine cannot be heard.
        """
        tick_s = min(self._hang_timeout_s / _TICKS, _MAX_TICK_S)
        silent_s, seen = 0.0, -1
        while silent_s < self._hang_timeout_s:
            await asyncio.sleep(tick_s)
            signs = self.captioner.engine.num_signs
            silent_s = silent_s + tick_s if self._in_hand and signs == seen else 0.0
            seen = signs
        self._fall(
            Reason.ENGINE_HUNG,
            f"the engine gave no sign of life for {self._hang_timeout_s:g} s "
            "(caption.engine.hang_timeout_s)",
        )
