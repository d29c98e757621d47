"""Describe an image: ask an engine, check the answers, ask again for what is missing.

`Captioner` is all that a run and the service see. `EngineCaptioner` is one for any engine that
needs no care; an engine in processes of this machine, which may die, is a matter of
`skytext.models.vllm.supervisor`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from PIL import Image

from skytext.captions.parsing import Variant, merge_distinct, parse_answer
from skytext.config.captioning import CaptionConfig
from skytext.errors import JobError, Reason, SampleError, Stage

# Each further attempt is this much warmer: a model that repeats itself needs it, and a bounded
# ladder of temperatures is what olmocr found to rescue most pages.
_WARMER = 0.15
_MAX_TEMPERATURE = 1.3


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to an engine.

    Attributes:
        num_samples: independent answers wanted.
        objects_per_answer: variants that each answer holds.
        temperature: of this attempt.
        max_tokens: longest answer.
        seed: or None for the engine's own randomness.
    """

    num_samples: int
    objects_per_answer: int
    temperature: float
    max_tokens: int
    seed: int | None


@dataclass(frozen=True, slots=True)
class Answer:
    """One sampled text and why it ended (``stop``, ``length``, …)."""

    text: str
    finish_reason: str | None


@dataclass(frozen=True, slots=True)
class Generation:
    """What an engine returned for one `Ask`.

    ``num_prompt_tokens`` counts the prompt once, image tokens included; ``num_output_tokens``
    sums over the samples; ``num_cached_tokens`` of the prompt came from the prefix cache.
    """

    answers: Sequence[Answer]
    num_prompt_tokens: int
    num_cached_tokens: int
    num_output_tokens: int


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine runs on; recorded in every row, not hashed."""

    engine_version: str
    device: str
    precision: str


class EngineDiedError(JobError):
    """The engine is gone, and with it what it was at; another may be started in its place."""


class Engine(Protocol):
    """Generates text for an image and a fixed prompt; ``info`` is what it runs on."""

    info: EngineInfo

    async def generate(self, image: Image.Image, ask: Ask) -> Generation:
        """Answer one request.

        Raises:
            SampleError: this image cannot be asked about; others can.
            EngineDiedError: the engine is gone.
        """

    async def check(self) -> None:
        """Try one small request before the first image.

        Raises:
            ModelError: the engine cannot answer: its prompt, template or settings are wrong.
            EngineDiedError: the engine is gone.
        """

    def close(self) -> None:
        """Stop the engine, a dead or hung one too, and wait until its processes are gone.

        Raises:
            JobError: one of them does not end.
        """


@dataclass(frozen=True, slots=True)
class Description:
    """The variants of one image, best effort within the ladder, and what they cost."""

    variants: tuple[Variant, ...]
    attempts: int
    num_prompt_tokens: int
    num_cached_tokens: int
    num_output_tokens: int


class Captioner(Protocol):
    """Describes images; any number of calls may run at once, in one event loop.

    Attributes:
        info: what it runs on; None until it is started.
        clock: how long it had work, and how long it had none.
        num_restarts: engines that were started in the place of others.
    """

    info: EngineInfo | None
    clock: BusyClock
    num_restarts: int

    async def start(self) -> EngineInfo:
        """Get ready, if that is not done yet; return what it runs on.

        Raises:
            CallError: the model cannot be served, or refuses even a blank image.
            JobError: it was not ready in time, or an engine that died could not be replaced.
        """

    async def describe(self, image: Image.Image, key: str) -> Description:
        """Describe one image.

        Args:
            image: RGB.
            key: names the image for `CaptionConfig.seed`.

        Raises:
            SampleError: this image cannot be described; others can.
            CallError: as `start`.
            JobError: likewise.
        """

    def close(self) -> None:
        """End what was started and wait until it is gone; from any thread, more than once."""


EngineT = TypeVar("EngineT", bound=Engine)


class EngineCaptioner(Generic[EngineT]):
    """A `Captioner` that asks one engine.

    Args:
        engine: writes the answers.
        config: what is asked for.
        parse: reads the variants of one answer, given its text and finish reason; what it leaves
            out is asked for again.
    """

    def __init__(
        self,
        engine: EngineT,
        config: CaptionConfig,
        parse: Callable[[str, str | None], Sequence[Variant]] = parse_answer,
    ) -> None:
        self.engine = engine
        self.info: EngineInfo | None = None
        self.clock = BusyClock()
        self.num_restarts = 0
        self._config = config
        self._parse = parse

    async def start(self) -> EngineInfo:
        """Try the engine with a small request, once."""
        if self.info is None:
            await self.engine.check()
            self.info = self.engine.info
        return self.info

    async def describe(self, image: Image.Image, key: str) -> Description:
        """Describe one image.

        Raises:
            SampleError: no good variant came within the attempts, or the engine refused the image.
            EngineDiedError: the engine is gone.
        """
        with self.clock:
            return await self._climb(image, key)

    def close(self) -> None:
        """Stop the engine."""
        self.engine.close()

    async def _climb(self, image: Image.Image, key: str) -> Description:
        variants: list[Variant] = []
        prompt = cached = output = 0
        last = "no answer"
        attempt = 0
        while attempt < self._config.max_attempts and len(variants) < self._config.num_variants:
            missing = self._config.num_variants - len(variants)
            generation = await self.engine.generate(image, self._ask(attempt, missing, key))
            attempt += 1
            prompt += generation.num_prompt_tokens
            cached += generation.num_cached_tokens
            output += generation.num_output_tokens
            for answer in generation.answers:
                new = self._parse(answer.text, answer.finish_reason)
                variants = merge_distinct(variants, new, self._config.num_variants)
                last = f"finish_reason {answer.finish_reason}: {answer.text[:120]!r}"
        if not variants:
            raise SampleError(Stage.CAPTION, Reason.NO_GOOD_VARIANT, last, attempts=attempt)
        return Description(tuple(variants), attempt, prompt, cached, output)

    def _ask(self, attempt: int, missing: int, key: str) -> Ask:
        config = self._config
        one_request = config.variants_by == "one_request"
        # A cut-off answer needs room more than luck, so the limit grows with the attempts.
        max_tokens = int(config.max_tokens * (1 + attempt / 2))
        return Ask(
            num_samples=1 if one_request else missing,
            objects_per_answer=missing if one_request else 1,
            temperature=min(
                config.temperature + attempt * _WARMER, max(config.temperature, _MAX_TEMPERATURE)
            ),
            max_tokens=max_tokens * (missing if one_request else 1),
            seed=_seed(config.seed, key, attempt),
        )


def _seed(seed: int | None, key: str, attempt: int) -> int | None:
    if seed is None:
        return None
    digest = hashlib.sha256(f"{seed}\0{key}\0{attempt}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


class BusyClock:
    """Measures how long an engine had work, from the first call to the last.

    Attributes:
        span_s: seconds from the first call's start to the last call's end.
        idle_s: seconds within that span in which nothing was in flight.
    """

    def __init__(self) -> None:
        self.idle_s = 0.0
        self._started: float | None = None
        self._ended = 0.0
        self._in_flight = 0

    @property
    def span_s(self) -> float:
        """Seconds from the first call's start to the last call's end."""
        return 0.0 if self._started is None else max(self._ended - self._started, 0.0)

    def __enter__(self) -> None:
        now = time.monotonic()
        if self._started is None:
            self._started = now
        elif self._in_flight == 0:
            self.idle_s += now - self._ended
        self._in_flight += 1

    def __exit__(self, *_: object) -> None:
        self._in_flight -= 1
        self._ended = time.monotonic()
