from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from PIL import Image

from skytext.captions import captioner as module
from skytext.captions.captioner import (
    Answer,
    Ask,
    BusyClock,
    Captioner,
    Description,
    EngineCaptioner,
    EngineInfo,
    Generation,
)
from skytext.captions.parsing import FIELDS
from skytext.config.captioning import CaptionConfig
from skytext.errors import Reason, SampleError, Stage

IMAGE = Image.new("RGB", (8, 8))
INFO = EngineInfo("scripted", "cpu", "none")


def good(word: str) -> Answer:
    return Answer(json.dumps({name: f"{word} {name}" for name in FIELDS}), "stop")


def together(*words: str) -> Answer:
    objects = [json.loads(good(word).text) for word in words]
    return Answer(json.dumps({"variants": objects}), "stop")


EMPTY = Answer(json.dumps({"one_sentence": "a", "feature": " ", "caption": "c"}), "stop")
GARBAGE = Answer("a river", "stop")
CUT_OFF = Answer(good("long").text[:20], "length")


@dataclass
class ScriptedEngine:
    """An engine that returns the scripted answers. There is one list of answers per request, and
    the last list is repeated."""

    script: Sequence[Sequence[Answer] | SampleError]
    asks: list[Ask] = field(default_factory=list)
    info: EngineInfo = INFO
    num_checks: int = 0
    is_closed: bool = False

    async def generate(self, image: Image.Image, ask: Ask) -> Generation:
        assert image is IMAGE
        self.asks.append(ask)
        answers = self.script[min(len(self.asks), len(self.script)) - 1]
        if isinstance(answers, SampleError):
            raise answers
        return Generation(answers, 100, 10 * (len(self.asks) - 1), 7 * len(answers))

    async def check(self) -> None:
        self.num_checks += 1

    def close(self) -> None:
        self.is_closed = True


def describe(
    *script: Sequence[Answer] | SampleError, key: str = "id", **settings: Any
) -> tuple[Description, list[Ask]]:
    engine = ScriptedEngine(script)
    captioner = EngineCaptioner(engine, CaptionConfig(**settings))
    return asyncio.run(captioner.describe(IMAGE, key)), engine.asks


def words(description: Description) -> list[str]:
    return [variant.caption.split()[0] for variant in description.variants]


FIVE = [good(word) for word in "abcde"]


def test_info_is_set_after_the_first_engine_check() -> None:
    engine = ScriptedEngine([FIVE])
    captioner: Captioner = EngineCaptioner(engine, CaptionConfig())
    assert captioner.info is None
    assert [asyncio.run(captioner.start()) for _ in range(2)] == [INFO, INFO]
    assert (captioner.info, captioner.num_restarts, engine.num_checks) == (INFO, 0, 1)
    captioner.close()
    assert engine.is_closed


def test_five_good_answers_take_one_request() -> None:
    description, asks = describe(FIVE)
    assert words(description) == list("abcde")
    assert description.attempts == 1
    assert asks == [
        Ask(num_samples=5, objects_per_answer=1, temperature=0.7, max_tokens=512, seed=None)
    ]


@pytest.mark.parametrize("bad", [EMPTY, GARBAGE, CUT_OFF, good("A"), Answer("", None)])
def test_missing_variants_are_requested_with_higher_temperature_and_limit(bad: Answer) -> None:
    description, asks = describe([*FIVE[:3], bad, bad], FIVE[3:])
    assert words(description) == list("abcde")
    assert description.attempts == 2
    assert [ask.num_samples for ask in asks] == [5, 2]
    assert [ask.objects_per_answer for ask in asks] == [1, 1]
    assert asks[1].temperature > asks[0].temperature
    assert asks[1].max_tokens > asks[0].max_tokens


def test_a_good_answer_of_before_is_a_duplicate_later() -> None:
    description, asks = describe(FIVE[:4], [good("B")], [good("e")])
    assert words(description) == list("abcde")
    assert [ask.num_samples for ask in asks] == [5, 1, 1]


@pytest.mark.parametrize("max_attempts", [1, 2, 3, 10])
def test_temperatures_of_retries_rise_up_to_a_limit(max_attempts: int) -> None:
    description, asks = describe([good("a")], max_attempts=max_attempts)
    assert words(description) == ["a"]
    assert len(asks) == description.attempts == max_attempts
    temperatures = [ask.temperature for ask in asks]
    assert temperatures == sorted(temperatures)
    assert max(temperatures) <= 1.3
    assert [ask.max_tokens for ask in asks] == sorted({ask.max_tokens for ask in asks})


@pytest.mark.parametrize("temperature", [1.3, 1.5, 2.0])
def test_a_high_temperature_is_not_lowered(temperature: float) -> None:
    _, asks = describe([GARBAGE], [GARBAGE], [good("a")], temperature=temperature)
    assert [ask.temperature for ask in asks] == [temperature] * 3


def test_fewer_variants_are_better_than_none() -> None:
    description, _ = describe([good("a"), EMPTY, good("b")], [GARBAGE], [CUT_OFF])
    assert words(description) == ["a", "b"]
    assert description.attempts == 3


@pytest.mark.parametrize("bad", [EMPTY, GARBAGE, CUT_OFF])
@pytest.mark.parametrize("max_attempts", [1, 4])
def test_no_good_variant_fails_the_image(bad: Answer, max_attempts: int) -> None:
    with pytest.raises(SampleError) as caught:
        describe([bad] * 5, max_attempts=max_attempts)
    error = caught.value
    assert error.stage is Stage.CAPTION
    assert error.reason is Reason.NO_GOOD_VARIANT
    assert error.attempts == max_attempts
    # The detail shows the answer and its finish reason.
    assert f"finish_reason {bad.finish_reason}" in error.detail
    assert bad.text[:10] in error.detail


def test_an_engine_without_answers_fails_the_image() -> None:
    with pytest.raises(SampleError, match="no answer") as caught:
        describe([])
    assert caught.value.reason is Reason.NO_GOOD_VARIANT


def test_more_answers_than_requested_are_dropped() -> None:
    description, _ = describe([*FIVE, good("f")])
    assert words(description) == list("abcde")


def test_a_rejected_image_is_not_retried() -> None:
    refusal = SampleError(Stage.CAPTION, Reason.PROMPT_TOO_LONG, "4097 tokens")
    engine = ScriptedEngine([refusal])
    captioner = EngineCaptioner(engine, CaptionConfig())
    with pytest.raises(SampleError) as caught:
        asyncio.run(captioner.describe(IMAGE, "id"))
    assert caught.value is refusal
    assert len(engine.asks) == 1


def test_tokens_are_summed_over_the_requests() -> None:
    description, _ = describe([EMPTY] * 5, [*FIVE[:4], EMPTY], [good("e")])
    assert description.attempts == 3
    assert description.num_prompt_tokens == 300
    assert description.num_cached_tokens == 0 + 10 + 20
    assert description.num_output_tokens == 7 * (5 + 5 + 1)


def test_one_request_asks_for_all_in_one_answer() -> None:
    description, asks = describe([together(*"abcde")], variants_by="one_request")
    assert words(description) == list("abcde")
    assert asks == [
        Ask(num_samples=1, objects_per_answer=5, temperature=0.7, max_tokens=5 * 512, seed=None)
    ]


def test_one_request_asks_again_for_the_missing_objects() -> None:
    description, asks = describe(
        [together("a", "b", "A")], [together(*"cdb")], [good("e")], variants_by="one_request"
    )
    assert words(description) == list("abcde")
    assert [(ask.num_samples, ask.objects_per_answer) for ask in asks] == [(1, 5), (1, 3), (1, 1)]
    per_object = [ask.max_tokens / ask.objects_per_answer for ask in asks]
    assert per_object == sorted(set(per_object))


def test_a_single_variant_may_be_cold_at_first() -> None:
    _, asks = describe([GARBAGE], [good("a")], num_variants=1, temperature=0)
    assert asks[0].temperature == 0
    assert asks[1].temperature > 0


@pytest.mark.parametrize("num_variants", [1, 2, 32])
def test_as_many_variants_as_configured(num_variants: int) -> None:
    answers = [good(f"w{i}") for i in range(num_variants)]
    description, asks = describe(answers, num_variants=num_variants)
    assert len(description.variants) == num_variants
    assert asks[0].num_samples == num_variants


def seeds(seed: int | None, key: str) -> list[int | None]:
    _, asks = describe([good("a")], key=key, seed=seed)
    return [ask.seed for ask in asks]


def test_without_a_seed_the_engine_draws_its_own() -> None:
    assert seeds(None, "id") == [None, None, None]


def test_seeds_come_from_the_seed_the_image_and_the_attempt() -> None:
    first = seeds(7, "id")
    assert first == seeds(7, "id")
    assert len(set(first)) == 3
    assert not set(first) & set(seeds(8, "id"))
    assert not set(first) & set(seeds(7, "other"))
    assert all(seed is not None and 0 <= seed < 2**32 for seed in first)


def test_seed_0_is_a_seed() -> None:
    assert None not in seeds(0, "id")


class FakeTime:
    """A replacement for the ``time`` module of the captioner."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(module, "time", fake)
    return fake


def test_a_clock_that_never_ran_shows_zero() -> None:
    clock = BusyClock()
    assert (clock.span_s, clock.idle_s) == (0.0, 0.0)


def test_time_between_calls_is_idle(time: FakeTime) -> None:
    clock = BusyClock()
    # The time before the first call is not idle time.
    time.now += 50
    for _ in range(3):
        with clock:
            time.now += 2
        time.now += 3
    assert clock.span_s == 3 * 2 + 2 * 3
    assert clock.idle_s == 2 * 3


def test_calls_that_overlap_leave_no_idle_time(time: FakeTime) -> None:
    clock = BusyClock()
    clock.__enter__()
    time.now += 1
    clock.__enter__()
    time.now += 1
    clock.__exit__()
    time.now += 1
    with clock, clock:
        time.now += 1
    clock.__exit__()
    assert clock.span_s == 4
    assert clock.idle_s == 0
    time.now += 5
    with clock:
        time.now += 1
    assert (clock.span_s, clock.idle_s) == (10, 5)


def test_a_call_that_fails_ends_on_the_clock_too(time: FakeTime) -> None:
    clock = BusyClock()

    def fail() -> None:
        with clock:
            time.now += 4
            raise ValueError("gone")

    with pytest.raises(ValueError, match="gone"):
        fail()
    time.now += 6
    with clock:
        time.now += 1
    assert (clock.span_s, clock.idle_s) == (11, 6)


class SlowEngine(ScriptedEngine):
    """An engine that answers after the test sets ``gate``. Before that, the test adds one second of
    fake time."""

    time: FakeTime
    gate: asyncio.Event

    async def generate(self, image: Image.Image, ask: Ask) -> Generation:
        generation = await super().generate(image, ask)
        await self.gate.wait()
        return generation


def test_the_captioners_clock_covers_all_calls_at_once(time: FakeTime) -> None:
    engine = SlowEngine([FIVE])
    captioner = EngineCaptioner(engine, CaptionConfig())

    async def three() -> list[Description]:
        engine.gate = asyncio.Event()
        calls = [asyncio.create_task(captioner.describe(IMAGE, str(i))) for i in range(3)]
        while len(engine.asks) < 3:
            await asyncio.sleep(0)
        time.now += 1
        engine.gate.set()
        return await asyncio.gather(*calls)

    assert [words(description) for description in asyncio.run(three())] == [list("abcde")] * 3
    assert (captioner.clock.span_s, captioner.clock.idle_s) == (1, 0)


def test_a_failed_image_leaves_the_clock_right(time: FakeTime) -> None:
    refusal = SampleError(Stage.CAPTION, Reason.ENGINE_REFUSED, "no")
    captioner = EngineCaptioner(ScriptedEngine([refusal, FIVE]), CaptionConfig())
    with pytest.raises(SampleError):
        asyncio.run(captioner.describe(IMAGE, "a"))
    time.now += 5
    asyncio.run(captioner.describe(IMAGE, "b"))
    assert (captioner.clock.span_s, captioner.clock.idle_s) == (5, 5)
