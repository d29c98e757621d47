from __future__ import annotations

import asyncio
import gc
import json
import threading
from typing import Any

import psutil
import pytest
from PIL import Image

from skytext.captions.captioner import (
    Answer,
    Ask,
    EngineCaptioner,
    EngineInfo,
    Generation,
)
from skytext.captions.parsing import FIELDS, Variant, search_text
from skytext.config.captioning import CaptionConfig
from skytext.config.pixels import ImageConfig
from skytext.errors import ConfigError, JobError
from skytext.models.checkpoints import caption_model
from skytext.models.fakes.engine import FakeEngine
from skytext.models.fakes.engine_process import PROCESS_TITLE
from skytext.models.fakes.options import FakeOptions, pixel_digest
from skytext.models.fingerprints import caption_fingerprint, prompt_of
from skytext.models.vllm.processes import EngineProcesses
from skytext.models.vllm.supervisor import SupervisedCaptioner
from skytext.pixels.decode import decode_rgb
from skytext.run.stages.caption_images import ENGINE_COLUMN
from skytext.run.units import unpack
from skytext.table.schema import CAPTIONED
from tests.run.stages.samples import (
    HEAD,
    REFUSED,
    bad,
    caption,
    captioner,
    good,
    rows_of,
    sample,
    unit,
)


def clock_of(batch: Any) -> dict[str, Any] | None:
    text = batch.column(ENGINE_COLUMN)[0].as_py()
    return None if text is None else json.loads(text)


def test_every_image_gets_its_variants_in_order() -> None:
    batch = caption(unit(good(6)))
    head, samples = unpack(batch)
    assert head == HEAD
    assert samples.schema.equals(CAPTIONED)
    rows = samples.to_pylist()
    assert [row["member"] for row in rows] == [f"{i}.jpg" for i in range(6)]
    for row in rows:
        assert (row["status"], row["failure"], row["num_variants"]) == ("ok", None, 5)
        variants = [Variant(**variant) for variant in row["captions"]]
        assert len({variant.folded() for variant in variants}) == 5
        assert row["text"] == search_text(variants)
        assert row["caption_attempts"] == 1
        assert (row["num_prompt_tokens"], row["num_output_tokens"]) == (100, 450)
    assert len({row["text"] for row in rows}) == 6


def test_a_row_has_its_lineage() -> None:
    (row,) = rows_of(caption(unit(good(1))))
    config = CaptionConfig(model="fake")
    model, prompt = caption_model(config), prompt_of(config)
    assert row["caption_fingerprint"] == caption_fingerprint(config, ImageConfig(), model, prompt)
    assert (row["caption_model"], row["caption_model_revision"]) == ("fake", "fake-1")
    assert (row["prompt_id"], row["engine_version"]) == ("rsrt-1", "fake 1")
    assert (row["caption_device"], row["caption_precision"]) == ("cpu", "none")


def test_the_engine_reports_its_clock(actor: str) -> None:
    batch = caption(unit(good(2)), "fake:delay_s=0.01")
    clock = clock_of(batch)
    assert clock is not None
    assert clock["engine"] == actor
    assert clock["span_s"] >= 0.01
    assert 0 <= clock["idle_s"] <= clock["span_s"]


@pytest.mark.parametrize("rows", [[], [bad()]])
def test_without_an_image_no_engine_starts(rows: list[dict[str, Any]]) -> None:
    def refuse(_: object) -> Any:
        raise AssertionError("an engine was started")

    stage = captioner(make_captioner=lambda config, *_: SupervisedCaptioner(config, refuse))
    batch = asyncio.run(stage(unit(rows)))
    assert clock_of(batch) is None
    assert unpack(batch)[1].num_rows == len(rows)


class InProcess:
    """An engine without separate processes. The class has only the attributes that are needed."""

    info = EngineInfo("in process 1", "none", "none")
    is_closed = False

    async def generate(self, image: Image.Image, ask: Ask) -> Generation:
        texts = [json.dumps(dict.fromkeys(FIELDS, f"{i}")) for i in range(ask.num_samples)]
        return Generation([Answer(text, "stop") for text in texts], 1, 0, 1)

    async def check(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        self.is_closed = True


def test_a_captioner_without_processes_is_enough() -> None:
    engine = InProcess()
    stage = captioner(make_captioner=lambda config, *_: EngineCaptioner(engine, config))
    batch = asyncio.run(stage(unit(good(3))))
    assert [row["engine_version"] for row in rows_of(batch)] == ["in process 1"] * 3
    assert all(row["num_variants"] == 5 for row in rows_of(batch))
    assert (clock_of(batch) or {})["restarts"] == 0
    assert engines() == []
    stage.close()
    assert engine.is_closed


def test_failed_images_pass_through() -> None:
    rows = rows_of(caption(unit([*good(1), bad(), *good(1, 5)])))
    assert [row["status"] for row in rows] == ["ok", "failed", "ok"]
    assert rows[1]["failure"] == REFUSED
    empty = ("captions", "text", "num_variants", "caption_fingerprint", "engine_version")
    assert [rows[1][name] for name in empty] == [None] * 5


@pytest.mark.parametrize(
    ("model", "reason", "attempts"),
    [("fake:fail=1", "engine_refused", 1), ("fake:empty=1", "no_good_variant", 3)],
)
def test_an_image_that_cannot_be_described_fails_alone(
    model: str, reason: str, attempts: int
) -> None:
    (row,) = rows_of(caption(unit(good(1)), model))
    assert (row["status"], row["captions"], row["text"]) == ("failed", None, None)
    assert row["failure"]["stage"] == "caption"
    assert (row["failure"]["reason"], row["failure"]["attempts"]) == (reason, attempts)
    assert row["caption_model"] == model


def test_some_refused_images_leave_the_others() -> None:
    rows = rows_of(caption(unit(good(30)), "fake:fail=0.4"))
    statuses = [row["status"] for row in rows]
    assert {"ok", "failed"} == set(statuses)
    assert all((row["captions"] is None) == (row["status"] == "failed") for row in rows)


@pytest.mark.parametrize(
    ("model", "num_variants", "attempts"), [("fake:repeat=1", 1, 3), ("fake:truncate=1", 5, 2)]
)
def test_missing_variants_are_requested_again(model: str, num_variants: int, attempts: int) -> None:
    (row,) = rows_of(caption(unit(good(1)), model))
    assert row["status"] == "ok"
    assert (row["num_variants"], row["caption_attempts"]) == (num_variants, attempts)
    assert row["num_prompt_tokens"] == 100 * attempts
    assert {variant["finish_reason"] for variant in row["captions"]} == {"stop"}


def test_one_answer_may_have_all_variants() -> None:
    settings: dict[str, Any] = {"variants_by": "one_request", "num_variants": 3}
    (row,) = rows_of(caption(unit(good(1)), **settings))
    assert row["num_variants"] == 3
    assert row["num_output_tokens"] == 270


def test_units_share_one_engine() -> None:
    started: list[FakeEngine] = []

    def start(processes: EngineProcesses) -> FakeEngine:
        started.append(FakeEngine(FakeOptions(delay_s=0.02), processes))
        return started[-1]

    described_by = SupervisedCaptioner(CaptionConfig(), start)
    stage = captioner("fake", make_captioner=lambda *_: described_by)

    async def work() -> list[Any]:
        return await asyncio.gather(*(stage(unit(good(3, 10 * i))) for i in range(4)))

    batches = asyncio.run(work())
    assert [rows_of(batch)[0]["member"] for batch in batches] == [f"{10 * i}.jpg" for i in range(4)]
    (engine,) = started
    assert engine.num_requests == 12
    # The twelve images are described at the same time. The engine needs about the time of one
    # image, and is not idle.
    assert described_by.clock.span_s < 12 * 0.02
    assert described_by.clock.idle_s < 0.02


def test_a_model_that_cannot_start_ends_the_job() -> None:
    with pytest.raises(ConfigError, match="with these options: delay_s, fail"):
        caption(unit([sample("a.jpg", good(1)[0]["data"])]), "fake:nonsense=1")


@pytest.fixture(autouse=True)
def no_engine_of_another_test() -> None:
    """Check that no engine of an earlier test is running.

    An engine ends with its stage, or when the garbage collector frees the stage.
    """
    gc.collect()
    assert engines() == []


def engines() -> list[psutil.Process]:
    """Return the running engines that this process has started."""
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE and PROCESS_TITLE in child.cmdline()
    ]


def on(row: dict[str, Any]) -> str:
    return pixel_digest(decode_rgb(row["data"]))[:16]


def test_images_that_end_or_hang_the_engine_fail_alone() -> None:
    images = good(40)
    deadly, hanging = (3, 4, 30), 17
    model = (
        f"fake:delay_s=0.01,die_on={'+'.join(on(images[i]) for i in deadly)},"
        f"hang_on={on(images[hanging])}"
    )
    batch = caption(unit(images), model, engine={"hang_timeout_s": 0.5})
    rows = rows_of(batch)
    reasons = {i: row["failure"] and row["failure"]["reason"] for i, row in enumerate(rows)}
    expected = dict.fromkeys(deadly, "engine_died") | {hanging: "engine_hung"}
    assert {i: reason for i, reason in reasons.items() if reason} == expected
    assert all(rows[i]["failure"]["stage"] == "caption" for i in expected)
    assert all(rows[i]["failure"]["attempts"] >= 2 for i in expected)
    assert all(rows[i]["engine_version"] == "fake 1" for i in expected)
    clock = clock_of(batch)
    assert clock is not None
    assert clock["restarts"] >= 4
    # The other images have the same captions as without a crash.
    plain = rows_of(caption(unit(images)))
    for i in set(range(40)) - set(expected):
        assert (rows[i]["captions"], rows[i]["text"]) == (plain[i]["captions"], plain[i]["text"])


def test_a_killed_engine_is_replaced_and_no_image_fails() -> None:
    stage = captioner("fake:delay_s=0.3")

    async def work() -> Any:
        unit_work = asyncio.create_task(stage(unit(good(10))))
        # Wait until the engine has started and has its first image.
        while stage._captioner.info is None:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)
        engines()[0].kill()
        return await unit_work

    batch = asyncio.run(work())
    assert {row["status"] for row in rows_of(batch)} == {"ok"}
    clock = clock_of(batch)
    assert clock is not None
    assert clock["restarts"] == 1
    assert len(engines()) == 1
    stage.close()
    assert engines() == []


def test_no_engine_outlives_its_stage() -> None:
    stage = captioner()
    asyncio.run(stage(unit(good(2))))
    assert len(engines()) == 1
    del stage
    gc.collect()
    assert engines() == []


def test_no_engine_is_left_by_a_job_that_fails() -> None:
    stage = captioner("fake:die=1", engine={"max_restarts": 2})
    with pytest.raises(
        JobError,
        match=r"ended 3 times in a row .*process \d+ of the fake engine ended because of signal 9",
    ):
        asyncio.run(stage(unit(good(9))))
    assert engines() == []


def test_an_engine_that_does_not_come_up_ends_the_job() -> None:
    with pytest.raises(
        JobError, match=r"did not start within caption.engine.start_timeout_s \(0.3 s\)"
    ):
        caption(unit(good(3)), "fake:start_s=1000", engine={"start_timeout_s": 0.3})
    assert engines() == []


@pytest.mark.parametrize("model", ["fake:hang=1", "fake:start_s=1000", "fake:delay_s=1000"])
def test_a_stage_can_be_stopped_at_any_time(model: str) -> None:
    stage = captioner(model)

    def stop() -> None:
        while not engines():
            pass
        stage.close()

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(JobError):
        asyncio.run(stage(unit(good(3))))
    thread.join()
    assert engines() == []
