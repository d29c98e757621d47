"""Fake engine: fast, deterministic, with configurable failures.

With the fake engine, users can test their jobs without a model. To use it, set the model name to
``fake``. A name with options is, for example, ``fake:delay_s=0.01,fail=0.02,die_on=3f2a+90c1``.
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
    """A fake engine, in a process of its own like a real engine.

    The image's pixels and the request determine the answers.

    Args:
        options: the failures to simulate.
        processes: registers the process of the engine.
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
            SampleError: the image is in the share of images that `FakeOptions.fail` sets.
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
        """Kill the process of the engine, and wait until it has ended."""
        self._processes.kill()
        self._process.close()
        self._processes.end()
