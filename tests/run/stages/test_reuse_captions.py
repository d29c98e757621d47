"""Test that identical bytes are described only once."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytext.captions.captioner import Description, EngineInfo
from skytext.captions.parsing import Variant
from skytext.config.captioning import CaptionConfig
from skytext.config.pixels import ImageConfig
from skytext.errors import Reason, SampleError, Stage
from skytext.models.checkpoints import caption_model
from skytext.models.fingerprints import caption_fingerprint, prompt_of
from skytext.run.control import content_ledger
from skytext.run.control.content_ledger import Asked, ContentLedger, LocalLedger, Words
from skytext.run.stages.caption_images import CaptionUnits
from skytext.run.stages.reuse_captions import Duplicates, PutOffError
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from tests.archives import jpeg
from tests.run.stages.samples import captioner, rows_of, sample, unit
from tests.table.rows import failed_row, good_row, location, make_table

OURS = "c" * 32
ONE, TWO, THREE = (hashlib.sha256(bytes([i])).hexdigest() for i in range(3))


@pytest.fixture
def where(tmp_path: Path) -> TableLocation:
    return location(tmp_path / "table")


class Model:
    """Records the requests, and answers only after the test has set ``may_answer``."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[str] = []
        self.error = error
        self.may_answer = asyncio.Event()

    def __call__(self, content: str) -> Callable[[], Awaitable[Words]]:
        async def describe() -> Words:
            self.asked.append(content)
            await self.may_answer.wait()
            if self.error is not None:
                raise self.error
            words = Variant(f"{content[:6]} {len(self.asked)}", "feature", "caption")
            return Words(Description((words,), 2, 100, 10, 90), INFO)

        return describe


IMAGES = itertools.count()
INFO = EngineInfo("scripted", "cpu", "none")


async def ask_for(
    known: Duplicates, model: Model, content: str, image_id: str | None = None
) -> Description:
    """Request the captions of an image with this content.

    If ``image_id`` is None, the request is for a new image.
    """
    words = await known.describe(content, image_id or f"image-{next(IMAGES)}", model(content))
    return words.description


def ledger_of(*contents: str) -> LocalLedger:
    ledger = ContentLedger()
    ledger.know(keys(*contents))
    return LocalLedger(ledger)


def keys(*contents: str) -> np.ndarray[tuple[int], np.dtype[np.bytes_]]:
    return np.array(sorted(bytes.fromhex(content)[:16] for content in contents), "S16")


def test_concurrent_requests_for_a_content_share_one_description() -> None:
    async def ask() -> None:
        model, known = Model(), Duplicates(None, OURS)
        asking = [asyncio.create_task(ask_for(known, model, ONE)) for _ in range(3)]
        other = asyncio.create_task(ask_for(known, model, TWO))
        while len(model.asked) < 2:
            await asyncio.sleep(0)
        model.may_answer.set()
        first, *others = await asyncio.gather(*asking)
        assert sorted(model.asked) == sorted([ONE, TWO])
        assert all(found.variants == first.variants for found in others)
        assert (await other).variants != first.variants
        # Attempts and tokens are counted only once.
        assert (first.attempts, first.num_prompt_tokens, first.num_output_tokens) == (2, 100, 90)
        for found in others:
            assert (found.attempts, found.num_prompt_tokens) == (0, 0)
            assert (found.num_cached_tokens, found.num_output_tokens) == (0, 0)

    asyncio.run(ask())


def test_later_requests_for_a_content_reuse_its_description() -> None:
    async def ask() -> None:
        model, known = Model(), Duplicates(None, OURS)
        model.may_answer.set()
        first = await ask_for(known, model, ONE)
        again = await ask_for(known, model, ONE)
        assert model.asked == [ONE]
        assert again.variants == first.variants
        assert again.num_output_tokens == 0

    asyncio.run(ask())


def test_an_error_reaches_all_that_wait_and_is_not_remembered() -> None:
    async def ask() -> None:
        error = SampleError(Stage.CAPTION, Reason.NO_GOOD_VARIANT, "nothing")
        model, known = Model(error), Duplicates(None, OURS)
        asking = [asyncio.create_task(ask_for(known, model, ONE)) for _ in range(3)]
        while not model.asked:
            await asyncio.sleep(0)
        model.may_answer.set()
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert results == [error] * 3
        assert model.asked == [ONE]
        model.error = None
        assert (await ask_for(known, model, ONE)).num_output_tokens == 90

    asyncio.run(ask())


def test_an_error_without_waiters_is_raised_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def ask() -> None:
        model, known = Model(RuntimeError("engine")), Duplicates(None, OURS)
        model.may_answer.set()
        with pytest.raises(RuntimeError):
            await ask_for(known, model, ONE)

    asyncio.run(ask())
    assert caplog.records == []


def test_evicted_descriptions_are_read_from_the_table(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_ledger, "_REMEMBERED", 1)

    async def ask() -> None:
        model, known = Model(), Duplicates(where, OURS)
        model.may_answer.set()
        await ask_for(known, model, ONE)
        await ask_for(known, model, TWO)
        # The description was removed from the ledger and is not committed yet. A later pass copies
        # the captions.
        with pytest.raises(PutOffError):
            await ask_for(known, model, ONE)
        make_table(where, [good_row("one.jpg", content_sha256=ONE)])
        found = await ask_for(known, model, ONE)
        assert model.asked == [ONE, TWO]
        assert [variant.one_sentence for variant in found.variants] == [
            "one.jpg variant 0",
            "one.jpg variant 1",
        ]
        assert (found.attempts, found.num_output_tokens) == (0, 0)

    asyncio.run(ask())


def test_descriptions_of_earlier_runs_are_read_from_the_table(where: TableLocation) -> None:
    # The first 16 bytes of a hash may end in zeros, which NumPy cuts off.
    odd = "ab" * 14 + "0000" + "cd" * 16
    rows = [
        good_row("one.jpg", content_sha256=ONE),
        good_row("odd.jpg", content_sha256=odd, shard="it's.tar"),
        good_row("stale.jpg", content_sha256=TWO, caption_fingerprint="s" * 32),
        failed_row("failed.jpg", content_sha256=THREE),
    ]
    make_table(where, rows)

    async def ask() -> None:
        model, known = Model(), Duplicates(where, OURS, ledger_of(ONE, odd, TWO, THREE))
        model.may_answer.set()
        for content, member in ((ONE, "one.jpg"), (odd, "odd.jpg")):
            found = await ask_for(known, model, content)
            assert found.variants[0].one_sentence == f"{member} variant 0"
            assert found.variants[0].finish_reason == "stop"
        # Captions with other settings and failed rows are not used, even if the index finds these
        # rows.
        for content in (TWO, THREE):
            await ask_for(known, model, content)
        assert model.asked == [TWO, THREE]

    asyncio.run(ask())


def test_contents_with_a_common_hash_prefix_are_not_confused(where: TableLocation) -> None:
    """The index contains only the first half of each hash."""
    twin = ONE[:32] + "0" * 32
    make_table(where, [good_row("one.jpg", content_sha256=ONE)])

    async def ask() -> None:
        model, known = Model(), Duplicates(where, OURS, ledger_of(ONE))
        model.may_answer.set()
        await ask_for(known, model, twin)
        assert model.asked == [twin]

    asyncio.run(ask())


def test_a_cancelled_request_does_not_cancel_others(where: TableLocation) -> None:
    async def ask() -> None:
        model, known = Model(), Duplicates(None, OURS)
        first = asyncio.create_task(ask_for(known, model, ONE))
        second = asyncio.create_task(ask_for(known, model, ONE))
        while not model.asked:
            await asyncio.sleep(0)
        # If one waiting request is cancelled, the other request is not affected.
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        model.may_answer.set()
        assert (await first).num_output_tokens == 90

    asyncio.run(ask())


def test_copies_within_a_unit_and_across_units_are_described_once() -> None:
    async def ask() -> None:
        units = captioner()
        copies = [sample(f"{i}.jpg", jpeg(1)) for i in range(3)]
        here, there = await asyncio.gather(
            units(unit([*copies, sample("other.jpg", jpeg(2))])),
            units(unit([sample("far.jpg", jpeg(1))])),
        )
        later = await units(unit([sample("late.jpg", jpeg(1))]))
        rows = [*rows_of(here), *rows_of(there), *rows_of(later)]
        assert [row["status"] for row in rows] == ["ok"] * 6
        same = [row for row in rows if row["member"] != "other.jpg"]
        assert all(row["captions"] == same[0]["captions"] for row in same)
        assert all(row["text"] == same[0]["text"] for row in same)
        paid = [row["member"] for row in rows if row["num_output_tokens"]]
        assert len(paid) == 2
        assert "other.jpg" in paid
        units.close()

    asyncio.run(ask())


def test_an_engine_s_actor_finds_what_an_earlier_run_described(
    where: TableLocation,
) -> None:
    config = CaptionConfig(model="fake")
    model, prompt = caption_model(config), prompt_of(config)
    ours = caption_fingerprint(config, ImageConfig(), model, prompt)
    content = hashlib.sha256(jpeg(1)).hexdigest()
    row = good_row("one.jpg", content_sha256=content, caption_fingerprint=ours)
    make_table(where, [row])

    async def ask() -> None:
        units = CaptionUnits(
            config, ImageConfig(), model, prompt, location=where, ledger=ledger_of(content)
        )
        (found,) = rows_of(await units(unit([sample("copy.jpg", jpeg(1))])))
        assert found["captions"] == row["captions"]
        assert (found["num_output_tokens"], found["caption_fingerprint"]) == (0, ours)
        units.close()

    asyncio.run(ask())


def test_two_engines_of_a_run_describe_a_content_once() -> None:
    async def ask() -> None:
        model, ledger = Model(), ledger_of()
        one, other = (Duplicates(None, OURS, ledger) for _ in range(2))
        first = asyncio.create_task(ask_for(one, model, ONE))
        while not model.asked:
            await asyncio.sleep(0)
        # No engine waits for another engine. If another engine is describing the content, the image
        # is put off. The images that wait for this image are also put off.
        late = [asyncio.create_task(ask_for(other, model, ONE)) for _ in range(2)]
        results = await asyncio.gather(*late, return_exceptions=True)
        assert [type(error) for error in results] == [PutOffError] * 2
        model.may_answer.set()
        words = (await first).variants
        found = await ask_for(other, model, ONE)
        assert (found.variants, found.num_output_tokens) == (words, 0)
        assert model.asked == [ONE]

    asyncio.run(ask())


def test_a_content_that_failed_is_free_again() -> None:
    async def ask() -> None:
        model, ledger = Model(SampleError(Stage.CAPTION, Reason.NO_GOOD_VARIANT, "-")), ledger_of()
        model.may_answer.set()
        with pytest.raises(SampleError):
            await ask_for(Duplicates(None, OURS, ledger), model, ONE)
        model.error = None
        await ask_for(Duplicates(None, OURS, ledger), model, ONE)
        assert model.asked == [ONE, ONE]

    asyncio.run(ask())


def test_an_image_of_a_lost_engine_is_described_on_repetition() -> None:
    async def ask() -> None:
        model, ledger = Model(), ledger_of()
        lost = asyncio.create_task(ask_for(Duplicates(None, OURS, ledger), model, ONE, "lost"))
        while not model.asked:
            await asyncio.sleep(0)
        lost.cancel()
        model.may_answer.set()
        again = Duplicates(None, OURS, ledger)
        with pytest.raises(PutOffError):
            await ask_for(again, model, ONE, "another")
        await ask_for(again, model, ONE, "lost")
        assert model.asked == [ONE, ONE]

    asyncio.run(ask())


def test_an_image_whose_engine_was_lost_after_its_description_keeps_its_own_counts() -> None:
    async def ask() -> None:
        model, ledger = Model(), ledger_of()
        model.may_answer.set()
        first = await ask_for(Duplicates(None, OURS, ledger), model, ONE, "lost")
        again = Duplicates(None, OURS, ledger)
        assert await ask_for(again, model, ONE, "lost") == first
        copy = await ask_for(again, model, ONE, "another")
        assert (first.attempts, copy.attempts) == (2, 0)
        assert model.asked == [ONE]

    asyncio.run(ask())


def test_a_later_pass_describes_images_without_a_description(where: TableLocation) -> None:
    async def ask() -> None:
        model, ledger = Model(), ledger_of()
        known = Duplicates(where, OURS, ledger)
        await ledger.claim([Asked(ONE, "an image that came no more")])
        with pytest.raises(PutOffError):
            await ask_for(known, model, ONE)
        ledger.ledger.begin_pass()
        model.may_answer.set()
        await ask_for(known, model, ONE)
        assert model.asked == [ONE]

    asyncio.run(ask())


def test_look_ups_of_many_images_are_few_scans(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = [hashlib.sha256(bytes([i])).hexdigest() for i in range(50)]
    make_table(where, [good_row(f"{i}.jpg", content_sha256=c) for i, c in enumerate(contents)])
    scans: list[int] = []
    described = ImagesTable.described

    def counted(table: ImagesTable, wanted: Sequence[str], fingerprint: str) -> Any:
        scans.append(len(wanted))
        return described(table, wanted, fingerprint)

    monkeypatch.setattr(ImagesTable, "described", counted)

    async def ask() -> None:
        known = Duplicates(where, OURS, ledger_of(*contents))
        found = await asyncio.gather(*(ask_for(known, Model(), c) for c in contents))
        assert [one.variants[0].one_sentence for one in found] == [
            f"{i}.jpg variant 0" for i in range(50)
        ]

    asyncio.run(ask())
    assert sum(scans) == 50
    assert len(scans) <= 2
