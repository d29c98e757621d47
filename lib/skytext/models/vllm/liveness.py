"""One engine from start to end: its images in work, and whether it still responds."""

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
        num_signs: signs of life so far: grows with every answer, and every few tokens.
    """

    num_signs: int


@dataclass(eq=False, slots=True)
class Case:
    """One image that a caller waits for.

    Attributes:
        image: RGB.
        key: name of the image for the captioner.
        outcome: the result.
        num_falls: engines that ended while they worked on it.
    """

    image: Image.Image
    key: str
    outcome: asyncio.Future[Description] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    num_falls: int = 0


@dataclass(frozen=True, slots=True)
class Fall:
    """The end of an engine: a code and a message."""

    reason: Reason
    detail: str


class EngineLife:
    """A running engine.

    Args:
        captioner: the interface to the engine.
        processes: the engine's processes.
        hang_timeout_s: an engine with work and without a sign of life for this long is hung.
        on_answer: called for every answer of the engine, but not for every rejection, because its
            front end may have rejected the image.

    Attributes:
        fall: the end of the engine; not done while it runs.
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
        """Give an image to the engine; its outcome is set when it is done."""
        self.num_taken += 1
        task = asyncio.create_task(self.captioner.describe(case.image, case.key))
        self._in_hand[case] = task
        task.add_done_callback(lambda task: self._done(case, task))
        case.outcome.add_done_callback(lambda _: self._put_down(case))

    @property
    def in_hand(self) -> list[Case]:
        """The unfinished images, in the order of arrival."""
        return list(self._in_hand)

    async def end(self) -> list[Case]:
        """End the engine and all its processes; return the unfinished images.

        Raises:
            JobError: a process does not end.
        """
        self._watcher.cancel()
        if not self.fall.done():
            self.fall.set_result(Fall(Reason.ENGINE_DIED, "the engine was ended"))
        self._processes.kill()
        tasks = [task for task in self._in_hand.values() if task.cancel()]
        if tasks:
            # With a limit: a call that waits for a dead engine may ignore its cancellation.
            await asyncio.wait(tasks, timeout=_CANCEL_S)
        # Blocks the event loop deliberately: nothing can continue without an engine.
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
            # An error in our code, not in the engine. A dead engine may cause any error.
            case.outcome.set_exception(error)

    def _put_down(self, case: Case) -> None:
        """Stop work on an image that is done or no longer wanted."""
        task = self._in_hand.pop(case, None)
        if task is not None:
            task.cancel()

    def _fall(self, reason: Reason, detail: str) -> None:
        if not self.fall.done():
            self.fall.set_result(Fall(reason, detail))

    async def _watch(self) -> None:
        """Detect an engine that has work and gives no sign of life.

        Time is counted in turns of this loop, not by the clock: while this process is suspended, it
        receives no signs of life.
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
