from __future__ import annotations

import asyncio
import re
import time

import numpy as np
import pytest
from PIL import Image

from skytext.captions.captioner import Answer, Ask, Description, EngineCaptioner
from skytext.captions.parsing import guide_pattern, parse_answer
from skytext.captions.prompts import load_prompt
from skytext.config.captioning import CaptionConfig
from skytext.config.embedding import EmbedConfig
from skytext.errors import ConfigError, Reason, SampleError, Stage
from skytext.models.checkpoints import caption_model, embed_model
from skytext.models.factory import make_captioner, make_embedder
from skytext.models.fakes.embedders import FakeEmbedder
from skytext.models.fakes.engine import FakeEngine
from skytext.models.fakes.options import FakeOptions

ASK = Ask(num_samples=5, objects_per_answer=1, temperature=0.7, max_tokens=512, seed=None)
NUM_IMAGES = 200


def image(number: int) -> Image.Image:
    return Image.new("RGB", (4, 4), (number % 256, number // 256, 0))


def answers(name: str, number: int = 0, ask: Ask = ASK) -> list[Answer]:
    engine = FakeEngine(FakeOptions.parse(name))
    try:
        return list(asyncio.run(engine.generate(image(number), ask)).answers)
    finally:
        engine.close()


def describe(name: str, number: int = 0) -> Description:
    engine = FakeEngine(FakeOptions.parse(name))
    try:
        return asyncio.run(EngineCaptioner(engine, CaptionConfig()).describe(image(number), "id"))
    finally:
        engine.close()


def test_the_same_pixels_give_the_same_answers() -> None:
    assert answers("fake") == answers("fake")
    assert answers("fake") == answers("fake", 0)
    assert answers("fake", 0) != answers("fake", 1)


def test_plain_answers_are_good_different_and_of_the_guides_form() -> None:
    found = answers("fake")
    variants = [parse_answer(answer.text, answer.finish_reason) for answer in found]
    assert len({variant[0].folded() for variant in variants}) == 5
    for answer in found:
        assert re.fullmatch(guide_pattern(1), answer.text)


def test_one_answer_has_the_requested_number_of_objects() -> None:
    ask = Ask(num_samples=1, objects_per_answer=4, temperature=0.7, max_tokens=512, seed=None)
    (answer,) = answers("fake", ask=ask)
    assert len(parse_answer(answer.text, answer.finish_reason)) == 4


def test_another_temperature_gives_other_words() -> None:
    warmer = Ask(5, 1, 0.85, 512, None)
    assert answers("fake") != answers("fake", ask=warmer)


def test_tokens_and_requests_are_counted() -> None:
    engine = FakeEngine(FakeOptions())
    generation = asyncio.run(engine.generate(image(0), ASK))
    assert generation.num_prompt_tokens == 100
    assert generation.num_output_tokens == 5 * 90
    assert engine.num_requests == 1
    engine.close()


async def _refused(name: str) -> int:
    captioner = EngineCaptioner(FakeEngine(FakeOptions.parse(name)), CaptionConfig())
    calls = [captioner.describe(image(i), str(i)) for i in range(NUM_IMAGES)]
    done = await asyncio.gather(*calls, return_exceptions=True)
    captioner.engine.close()
    errors = [error for error in done if isinstance(error, BaseException)]
    assert all(isinstance(e, SampleError) and e.stage is Stage.CAPTION for e in errors)
    assert {e.reason for e in errors if isinstance(e, SampleError)} <= {Reason.ENGINE_REFUSED}
    return len(errors)


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (0.3, 35, 90), (1.0, 200, 200)])
def test_fail_refuses_its_share_of_the_images(share: float, least: int, most: int) -> None:
    assert least <= asyncio.run(_refused(f"fake:fail={share}")) <= most


def test_empty_leaves_fields_empty() -> None:
    found = [a for i in range(40) for a in answers("fake:empty=0.3", i)]
    empty = sum(not parse_answer(answer.text, answer.finish_reason) for answer in found)
    assert 30 <= empty <= 90
    with pytest.raises(SampleError) as caught:
        describe("fake:empty=1")
    assert caught.value.reason is Reason.NO_GOOD_VARIANT


def test_repeat_makes_all_answers_equal() -> None:
    assert len({answer.text for answer in answers("fake:repeat=1")}) == 1
    description = describe("fake:repeat=1")
    assert len(description.variants) == 1
    assert description.attempts == 3


def test_truncate_cuts_the_first_answers_off_and_more_room_helps() -> None:
    assert {answer.finish_reason for answer in answers("fake:truncate=1")} == {"length"}
    description = describe("fake:truncate=1")
    assert len(description.variants) == 5
    assert description.attempts == 2


def test_a_delay_is_applied() -> None:
    started = time.monotonic()
    answers("fake:delay_s=0.05")
    assert time.monotonic() - started >= 0.05


def test_options_are_read_from_the_name() -> None:
    assert FakeOptions.parse("fake") == FakeOptions.parse("fake:") == FakeOptions()
    assert FakeOptions.parse("fake:fail=0.1,delay_s=2") == FakeOptions(fail=0.1, delay_s=2.0)
    found = FakeOptions.parse("fake:die_on=12+00ff,hang_on=7,start_s=0.5")
    assert found == FakeOptions(die_on="12+00ff", hang_on="7", start_s=0.5)


@pytest.mark.parametrize(
    "name",
    [
        *("fake:bogus=1", "fake:fail", "fake:fail=lots", "fake:fail=", "fake:=1", "fake:fail:1"),
        *("fake:fail=2", "fake:empty=1.01", "fake:repeat=-0.1", "fake:truncate=inf"),
        *("fake:fail=nan", "fake:delay_s=-1", "fake:die=2", "fake:start_s=inf"),
        *("fake:die_on=", "fake:die_on=xyz", "fake:hang_on=12+", "fake:hang_on=FF"),
    ],
)
def test_an_unknown_option_gets_the_list_of_options(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FakeOptions.parse(name)
    assert repr(name) in str(caught.value)
    assert "delay_s, fail, empty, repeat, truncate" in str(caught.value)


def test_the_factory_makes_fakes_by_name() -> None:
    config, embed = CaptionConfig(model="fake:fail=1"), EmbedConfig(model="fake")
    captioner = make_captioner(config, caption_model(config), load_prompt("rsrt-1"))
    assert captioner.info is None

    async def use() -> None:
        assert await captioner.start() is captioner.info is FakeEngine.info
        with pytest.raises(SampleError):
            await captioner.describe(image(0), "id")

    asyncio.run(use())
    captioner.close()
    assert isinstance(make_embedder(embed, embed_model(embed)), FakeEmbedder)


TEXTS = ["a river beside a town", "A RIVER beside a town.", "snow", "river"]


@pytest.mark.parametrize("dim", [1, 16, 384])
def test_the_fake_embedder_makes_unit_vectors(dim: int) -> None:
    embedder = FakeEmbedder(dim)
    found = embedder.embed_documents(TEXTS)
    assert found.vectors.dtype == np.float32
    assert found.vectors.shape == (4, dim)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(found.vectors, embedder.embed_queries(TEXTS))
    np.testing.assert_array_equal(found.vectors, FakeEmbedder(dim).embed_queries(TEXTS))


@pytest.mark.parametrize("dim", [1, 16])
def test_no_texts_give_an_empty_array_with_the_right_dimension(dim: int) -> None:
    embedder = FakeEmbedder(dim)
    for found in (embedder.embed_documents([]).vectors, embedder.embed_queries([])):
        assert found.shape == (0, dim)
        assert found.dtype == np.float32
    assert embedder.embed_documents([]).truncated.tolist() == []


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_a_text_without_words_also_has_a_unit_vector(text: str) -> None:
    (vector,) = FakeEmbedder().embed_queries([text])
    assert np.linalg.norm(vector) == pytest.approx(1, rel=1e-6)


def test_shared_words_are_near() -> None:
    same, also, snow, river = FakeEmbedder(64).embed_queries(TEXTS)
    assert same @ also == pytest.approx(1)
    assert same @ river > same @ snow


def test_long_texts_are_truncated_and_flagged() -> None:
    embedder = FakeEmbedder()
    limit = embedder.max_words
    texts = [" ".join(["river"] * n) for n in (1, limit, limit + 1)]
    assert embedder.embed_documents(texts).truncated.tolist() == [False, False, True]
    cut = " ".join(["river"] * limit)
    np.testing.assert_array_equal(
        embedder.embed_queries([f"{cut} snow snow"]), embedder.embed_queries([cut])
    )
