"""Test a run with several engines. Many shards contain images with the same bytes."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import ray as real_ray

from skytext.errors import JobError
from skytext.run import passes
from skytext.run.caption_run import run_caption
from skytext.run.control.content_ledger import Asked, RemoteLedger, Reply, start_ledger
from skytext.run.plans.caption_plan import CaptionPlan, plan_caption
from skytext.run.progress import Progress
from tests.archives import images, jpeg, write_archive
from tests.run.jobs import check_one_row_an_image, config, ray, rows, with_ray

NUM_SHARDS, NUM_COPIED, NUM_CLAIMED = 6, 4, 2
NUM_IMAGES = NUM_SHARDS * 8
NUM_CONTENTS = NUM_COPIED + NUM_SHARDS * 4
NUM_PUT_OFF = NUM_CLAIMED * NUM_SHARDS


@pytest.fixture
def plan(tmp_path: Path) -> CaptionPlan:
    """Return a plan with two engines.

    Each shard has four images that are in all shards, and four images of its own.
    """
    copies = [(f"copy-{i}.jpg", jpeg(i)) for i in range(NUM_COPIED)]
    shards = {f"{i}.tar": [*copies, *images(100 + 4 * i, 4)] for i in range(NUM_SHARDS)}
    root = write_archive(tmp_path / "archive", shards)
    settings = {
        "caption__model": f"fake:delay_s=1,journal={tmp_path / 'journal'}",
        "caption__engine__num_engines": 2,
        "caption__engine__num_cpus_per_engine": 0.2,
    }
    return plan_caption([str(root)], str(tmp_path / "table"), config(**settings))


@pytest.fixture(autouse=True)
def claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Assign two contents to an image that never arrives.

    Therefore all images with these contents are put off.
    """

    def start_and_claim(known: Any) -> RemoteLedger:
        ledger = start_ledger(known)
        contents = [hashlib.sha256(jpeg(i)).hexdigest() for i in range(NUM_CLAIMED)]
        asked = [Asked(content, "never") for content in contents]
        assert real_ray.get(ledger.actor.claim.remote(asked)) == [Reply.DESCRIBE] * NUM_CLAIMED
        return ledger

    monkeypatch.setattr(passes, "start_ledger", start_and_claim)


def check_each_content_once(tmp_path: Path) -> None:
    asked = Counter((tmp_path / "journal").read_text().split())
    assert (len(asked), set(asked.values())) == (NUM_CONTENTS, {1})
    captions: dict[str, set[str]] = {}
    for row in rows(tmp_path / "table", "content_sha256", "text", "engine_version"):
        captions.setdefault(row["content_sha256"], set()).add(row["text"])
        assert row["engine_version"] == "fake 1"
    assert len(captions) == NUM_CONTENTS
    assert {len(texts) for texts in captions.values()} == {1}


@ray
@with_ray
def test_the_model_describes_each_content_once(tmp_path: Path, plan: CaptionPlan) -> None:
    seen: list[tuple[bool, int]] = []

    def watch(progress: Progress) -> None:
        seen.append((progress.is_later_pass, progress.num_done))

    summary = run_caption(plan, on_progress=watch)
    check_one_row_an_image(tmp_path / "table", summary)
    check_each_content_once(tmp_path)
    assert summary.num_captioned == summary.num_ok == NUM_IMAGES
    assert summary.num_engines >= 2
    # The other images did not wait for the images that were put off.
    assert max(done for is_later, done in seen if not is_later) <= NUM_IMAGES - NUM_PUT_OFF
    assert (True, NUM_IMAGES) in seen


@pytest.mark.proof
@ray
@with_ray
def test_put_off_images_are_new_in_the_next_run(
    tmp_path: Path, plan: CaptionPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends before its later pass."""
    build_dataset = passes.build_dataset

    def refuse_later_passes(plan: CaptionPlan, prepared: Any, *rest: Any) -> Any:
        if prepared.only is not None:
            raise JobError("the run was ended")
        return build_dataset(plan, prepared, *rest)

    monkeypatch.setattr(passes, "build_dataset", refuse_later_passes)
    with pytest.raises(JobError, match="the run was ended"):
        run_caption(plan)
    num_left = NUM_IMAGES - len(rows(tmp_path / "table", "image_id"))
    assert num_left >= NUM_PUT_OFF
    monkeypatch.undo()
    summary = run_caption(plan)
    assert summary.num_captioned == num_left
    check_one_row_an_image(tmp_path / "table", summary)
    check_each_content_once(tmp_path)
