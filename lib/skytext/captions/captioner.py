"""Describe an image: ask an engine, check the answers, ask again for missing ones.

A run and the service use only `Captioner`. `EngineCaptioner` works for any engine that needs no
supervision. `skytext.models.vllm.supervisor` handles engines in local processes, which may die.
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

# Each further attempt has a higher temperature, which helps a model that repeats itself. olmocr
# found that a bounded ladder of temperatures rescues most pages.
_WARMER = 0.15
_MAX_TEMPERATURE = 1.3


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to an engine.

    Attributes:
        num_samples: number of independent answers.
        objects_per_answer: number of variants per answer.
        temperature: temperature of this attempt.
        max_tokens: maximum length of an answer.
        seed: or None for the engine's own randomness.
    """

    num_samples: int
    objects_per_answer: int
    temperature: float
    max_tokens: int
    seed: int | None


@dataclass(frozen=True, slots=True)
class Answer:
    """One sampled text and its finish reason (``stop``, ``length``, …)."""

    text: str
    finish_reason: str | None


@dataclass(frozen=True, slots=True)
class Generation:
    """The result of an engine for one `Ask`.

    ``num_prompt_tokens`` counts the prompt once, image tokens included. ``num_output_tokens`` is
    the sum over the samples. ``num_cached_tokens`` of the prompt came from the prefix cache.
    """

    answers: Sequence[Answer]
    num_prompt_tokens: int
    num_cached_tokens: int
    num_output_tokens: int


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Device and versions of an engine; recorded in every row, not hashed."""

    engine_version: str
    device: str
    precision: str


class EngineDiedError(JobError):
    """The engine died and its work is lost; another may be started."""


class Engine(Protocol):
    """Generates text for an image and a fixed prompt; ``info`` has its device and versions."""

    info: EngineInfo

    async def generate(self, image: Image.Image, ask: Ask) -> Generation:
        """Answer one request.

        Raises:
            SampleError: the engine rejects this image; other images can work.
            EngineDiedError: the engine died.
        """

    async def check(self) -> None:
        """Try one small request before the first image.

        Raises:
            ModelError: the engine cannot answer because of its prompt, template or settings.
            EngineDiedError: the engine died.
        """

    def close(self) -> None:
        """Stop the engine, even if dead or hung, and wait until its processes have ended.

        Raises:
            JobError: a process does not end.
        """


@dataclass(frozen=True, slots=True)
class Description:
    """The variants of one image, as many as the attempts gave, and their cost."""

    variants: tuple[Variant, ...]
    attempts: int
    num_prompt_tokens: int
    num_cached_tokens: int
    num_output_tokens: int


class Captioner(Protocol):
    """Describes images. Any number of calls may run at once, in one event loop.

    Attributes:
        info: description of the engine; None until it is started.
        clock: busy and idle time of the engine.
        num_restarts: number of replacement engines.
    """

    info: EngineInfo | None
    clock: BusyClock
    num_restarts: int

    async def start(self) -> EngineInfo:
        """Start if necessary; return the description of the engine.

        Raises:
            CallError: the model cannot be served, or rejects even a blank image.
            JobError: the start took too long, or a dead engine could not be replaced.
        """

    async def describe(self, image: Image.Image, key: str) -> Description:
        """Describe one image.

        Args:
            image: RGB.
            key: name of the image, for `CaptionConfig.seed`.

        Raises:
            SampleError: this image cannot be described; other images can work.
            CallError: as `start`.
            JobError: as `start`.
        """

    def close(self) -> None:
        """End the engine and wait for its end; from any thread, repeatable."""


EngineT = TypeVar("EngineT", bound=Engine)


class EngineCaptioner(Generic[EngineT]):
    """A `Captioner` with one engine.

    Args:
        engine: generates the answers.
        config: the caption settings.
        parse: returns the valid variants of an answer, given its text and finish reason. Missing
            variants are requested again.
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
        """Test the engine with a small request, once."""
        if self.info is None:
            await self.engine.check()
            self.info = self.engine.info
        return self.info

    async def describe(self, image: Image.Image, key: str) -> Description:
        """Describe one image.

        Raises:
            SampleError: no attempt gave a good variant, or the engine rejected the image.
            EngineDiedError: the engine died.
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
        # A truncated answer needs more tokens, so the limit grows with the attempts.
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
    """Measures the busy time of an engine, from the first call to the last.

    Attributes:
        span_s: seconds from the first call's start to the last call's end.
        idle_s: seconds within that span without a call in flight.
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
