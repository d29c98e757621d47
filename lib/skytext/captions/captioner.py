"""Describe images. Request variants, check the variants, and request missing variants again.

A run and the service use only the interface `Captioner`. The class `EngineCaptioner` implements
this interface for an engine that needs no supervision. The module `skytext.models.vllm.supervisor`
implements this interface for an engine that runs in local processes and may die.
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

# Increase of the temperature for each further attempt. A higher temperature helps if the model
# repeats itself. The project olmocr found that a series of increasing temperatures up to a maximum
# gives valid results for most failed pages.
_WARMER = 0.15
_MAX_TEMPERATURE = 1.3


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to an engine.

    Attributes:
        num_samples: number of independent answers.
        objects_per_answer: number of variants in each answer.
        temperature: sampling temperature.
        max_tokens: maximum length of an answer, in tokens.
        seed: the seed for sampling. If None, the engine chooses the seed.
    """

    num_samples: int
    objects_per_answer: int
    temperature: float
    max_tokens: int
    seed: int | None


@dataclass(frozen=True, slots=True)
class Answer:
    """One generated text, and the reason why generation stopped (``stop``, ``length``, …)."""

    text: str
    finish_reason: str | None


@dataclass(frozen=True, slots=True)
class Generation:
    """The answers of an engine to one `Ask`.

    Attributes:
        answers: the generated texts, one for each sample.
        num_prompt_tokens: number of tokens of the prompt and the image. These tokens are counted
            once, and not once for each sample.
        num_cached_tokens: number of prompt tokens that the engine read from its prefix cache.
        num_output_tokens: number of generated tokens, summed over all samples.
    """

    answers: Sequence[Answer]
    num_prompt_tokens: int
    num_cached_tokens: int
    num_output_tokens: int


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """The device, version and precision of an engine.

    These values are stored in every row. They are not part of the caption fingerprint.
    """

    engine_version: str
    device: str
    precision: str


class EngineDiedError(JobError):
    """The engine process died, and its unfinished work is lost. A new engine may be started."""


class Engine(Protocol):
    """An engine that generates text for an image and a fixed prompt.

    Attributes:
        info: the device, version and precision of the engine.
    """

    info: EngineInfo

    async def generate(self, image: Image.Image, ask: Ask) -> Generation:
        """Generate the answers to one request.

        Raises:
            SampleError: the engine rejects this image. The engine may still accept other images.
            EngineDiedError: the engine died.
        """

    async def check(self) -> None:
        """Send one small test request before the first image.

        Raises:
            ModelError: the engine cannot answer because of the prompt, the chat template or the
                settings.
            EngineDiedError: the engine died.
        """

    def close(self) -> None:
        """Stop the engine, and wait until all its processes have ended.

        The method also works if the engine has died or does not respond.

        Raises:
            JobError: a process does not end.
        """


@dataclass(frozen=True, slots=True)
class Description:
    """The variants of one image, and the cost of generating them.

    Attributes:
        variants: the valid variants without duplicates. The number of variants may be smaller than
            requested.
        attempts: number of requests that were sent to the engine.
        num_prompt_tokens: `Generation.num_prompt_tokens`, summed over all attempts.
        num_cached_tokens: `Generation.num_cached_tokens`, summed over all attempts.
        num_output_tokens: `Generation.num_output_tokens`, summed over all attempts.
    """

    variants: tuple[Variant, ...]
    attempts: int
    num_prompt_tokens: int
    num_cached_tokens: int
    num_output_tokens: int


class Captioner(Protocol):
    """An object that describes images.

    Any number of calls of `describe` may run at the same time in one event loop.

    Attributes:
        info: the device and versions of the engine. None until the engine is started.
        clock: busy and idle time of the engine.
        num_restarts: the number of times that a new engine has replaced a dead engine.
    """

    info: EngineInfo | None
    clock: BusyClock
    num_restarts: int

    async def start(self) -> EngineInfo:
        """Start the engine if it is not running. Return the device and versions of the engine.

        Raises:
            CallError: the engine cannot serve the model, or rejects a blank test image.
            JobError: the start took too long, or a dead engine could not be replaced.
        """

    async def describe(self, image: Image.Image, key: str) -> Description:
        """Describe one image.

        Args:
            image: the RGB image.
            key: a name for the image. The seeds of the requests are derived from this name and
                `CaptionConfig.seed`.

        Raises:
            SampleError: this image cannot be described. Other images may still be described.
            CallError: for the same reasons as in `start`.
            JobError: for the same reasons as in `start`.
        """

    def close(self) -> None:
        """Stop the engine and wait until it has ended.

        Any thread may call this method. It may be called more than once.
        """


EngineT = TypeVar("EngineT", bound=Engine)


class EngineCaptioner(Generic[EngineT]):
    """A `Captioner` with one engine.

    Args:
        engine: the engine that generates the answers.
        config: the caption settings.
        parse: a function that takes the text and the finish reason of an answer, and returns the
            valid variants. Missing variants are requested again.
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
        """Test the engine with a small request if it has not been tested yet.

        Return the device and versions of the engine.
        """
        if self.info is None:
            await self.engine.check()
            self.info = self.engine.info
        return self.info

    async def describe(self, image: Image.Image, key: str) -> Description:
        """Describe one image.

        Raises:
            SampleError: no answer contained a valid variant, or the engine rejected the image.
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
        last = "the engine returned no answer"
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
        # The limit grows with each attempt, because a truncated answer needs more tokens.
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
    """A context manager that measures the busy and the idle time of an engine.

    Attributes:
        span_s: seconds from the start of the first call to the end of the last call.
        idle_s: seconds of ``span_s`` in which no call was running.
    """

    def __init__(self) -> None:
        self.idle_s = 0.0
        self._started: float | None = None
        self._ended = 0.0
        self._in_flight = 0

    @property
    def span_s(self) -> float:
        """Seconds from the start of the first call to the end of the last call."""
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
