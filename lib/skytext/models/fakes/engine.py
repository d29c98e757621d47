"""A fake engine. It is fast and deterministic, and simulates failures.

With the fake engine, users can test their jobs without a model. To use the fake engine, set the
model name to ``fake``. The name can contain options, for example
``fake:delay_s=0.01,fail=0.02,die_on=3f2a+90c1``.
"""

from __future__ import annotations

import contextlib
import dataclasses

from PIL import Image

from skytext.captions.captioner import Answer, Ask, EngineInfo, Generation
from skytext.captions.parsing import FIELDS
from skytext.errors import Reason, SampleError, Stage
from skytext.models.fakes.engine_client import FakeProcess
from skytext.models.fakes.options import FakeOptions, pixel_digest
from skytext.models.vllm.processes import EngineProcesses, start_limit

_PROMPT_TOKENS, _ANSWER_TOKENS = 100, 90


class FakeEngine:
    """A fake engine, which runs in a separate process like a real engine.

    The answers depend only on the pixels of the image and on the request.

    Args:
        options: the failures to simulate.
        processes: the object in which the process of the engine is registered.
        start_timeout_s: maximum time for the start, in seconds.

    Raises:
        JobError: the start takes longer than ``start_timeout_s``.
    """

    info = EngineInfo(engine_version="fake 1", device="cpu", precision="none")

    def __init__(
        self,
        options: FakeOptions,
        processes: EngineProcesses | None = None,
        start_timeout_s: float = 60.0,
    ) -> None:
        self.num_requests = 0
        self.num_signs = 0
        self._processes = processes or EngineProcesses()
        self._process = FakeProcess(dataclasses.asdict(options), FIELDS)
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            with start_limit(self._processes, start_timeout_s):
                self._process.wait_until_ready()
            self._processes.settle()
            undo.pop_all()

    async def generate(self, image: Image.Image, ask: Ask) -> Generation:
        """Answer one request.

        Raises:
            SampleError: the engine rejects the image, because of `FakeOptions.fail`.
            EngineDiedError: the process of the engine died.
        """
        self.num_requests += 1
        reply = await self._process.ask({"digest": pixel_digest(image), **dataclasses.asdict(ask)})
        self.num_signs += 1
        if "refused" in reply:
            raise SampleError(Stage.CAPTION, Reason.ENGINE_REFUSED, reply["refused"])
        answers = [Answer(text, finish_reason) for text, finish_reason in reply["answers"]]
        num_tokens = _ANSWER_TOKENS * ask.num_samples * ask.objects_per_answer
        return Generation(answers, _PROMPT_TOKENS, 0, num_tokens)

    async def check(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Kill the process of the engine, and wait until the process has ended."""
        self._processes.kill()
        self._process.close()
        self._processes.end()
