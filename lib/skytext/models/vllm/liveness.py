"""A running engine: its unfinished images, and a check whether the engine still responds."""

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
    """An engine that runs in processes of this machine.

    Attributes:
        num_signs: a counter that increases with every answer, and also after every few tokens. If
            the counter does not increase for a long time, the engine hangs.
    """

    num_signs: int


@dataclass(eq=False, slots=True)
class Case:
    """One image for which a caller waits.

    Attributes:
        image: the RGB image.
        key: the name of the image, which is passed to the captioner.
        outcome: the future with the description or the error.
        num_falls: the number of engines that ended while they described this image.
    """

    image: Image.Image
    key: str
    outcome: asyncio.Future[Description] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    num_falls: int = 0


@dataclass(frozen=True, slots=True)
class Fall:
    """The reason code and the message of an engine that has ended."""

    reason: Reason
    detail: str


class EngineLife:
    """A running engine.

    Args:
        captioner: the captioner that sends the images to the engine.
        processes: the engine's processes.
        hang_timeout_s: the hang timeout in seconds. The engine hangs if it has unfinished images,
            and ``num_signs`` does not increase for this time.
        on_answer: a function that is called when the engine has answered, even if no answer is
            usable. The function is not called if an image is rejected, because the front end of the
            engine can reject images while the core hangs.

    Attributes:
        fall: a future with the reason why the engine ended. The future is not done while the engine
            runs.
        num_taken: the number of images that the engine has received.
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
        """Start to describe an image. When the image is done, ``case.outcome`` is set."""
        self.num_taken += 1
        task = asyncio.create_task(self.captioner.describe(case.image, case.key))
        self._in_hand[case] = task
        task.add_done_callback(lambda task: self._done(case, task))
        case.outcome.add_done_callback(lambda _: self._put_down(case))

    @property
    def in_hand(self) -> list[Case]:
        """The unfinished images, in the order in which the engine received them."""
        return list(self._in_hand)

    async def end(self) -> list[Case]:
        """End the engine and all its processes, and return the unfinished images.

        Raises:
            JobError: a process does not end after it was killed.
        """
        self._watcher.cancel()
        if not self.fall.done():
            self.fall.set_result(Fall(Reason.ENGINE_DIED, "the engine was ended"))
        self._processes.kill()
        tasks = [task for task in self._in_hand.values() if task.cancel()]
        if tasks:
            # A task that waits for a dead engine may not react to cancellation, so limit the
            # waiting time.
            await asyncio.wait(tasks, timeout=_CANCEL_S)
        # This call blocks the event loop. This is acceptable, because no work can continue without
        # an engine.
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
            # Such an error is a bug in skytext. But if the engine is dead, ignore the error,
            # because a dead engine can cause any error.
            case.outcome.set_exception(error)

    def _put_down(self, case: Case) -> None:
        """Stop the work on an image that is done, or that the caller has cancelled."""
        task = self._in_hand.pop(case, None)
        if task is not None:
            task.cancel()

    def _fall(self, reason: Reason, detail: str) -> None:
        if not self.fall.done():
            self.fall.set_result(Fall(reason, detail))

    async def _watch(self) -> None:
        """Detect that the engine has unfinished images but makes no progress.

        The method counts iterations of its loop instead of reading the clock. If it read the clock,
        an engine would seem to hang after this process was suspended for some time.
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
            f"the engine made no progress for {self._hang_timeout_s:g} s "
            "(caption.engine.hang_timeout_s)",
        )
