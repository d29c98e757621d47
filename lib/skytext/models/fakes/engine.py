"""Fake of the engine: fast, deterministic, with configurable failures.

It is part of the package, so users can test their own jobs without a model. It is selected by the
model name: ``fake`` or ``fake:delay_s=0.01,fail=0.02,die_on=3f2a+90c1``.
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
    """Answers from the image's pixels only, in its own process like a real engine.

    Args:
        options: the failures to simulate.
        processes: registers its process.
        start_timeout_s: maximum time for the start, in seconds.

    Raises:
        JobError: the start takes longer.
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
            SampleError: for the share of images in `FakeOptions.fail`.
            EngineDiedError: its process died.
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
        """Kill its process and wait for its end."""
        self._processes.kill()
        self._process.close()
        self._processes.end()
