"""Several engines of one run, and images of the same bytes in many shards."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import ray as real_ray

from skytext.run.caption_plan import plan_caption
from skytext.run.caption_run import run_caption
from skytext.run.control.content_ledger import Asked, RemoteLedger, Reply, start_ledger
from skytext.run.progress import Progress
from tests.archives import images, jpeg, write_archive
from tests.run.jobs import check_one_row_an_image, config, ray, rows, with_ray

NUM_SHARDS, NUM_COPIED = 6, 4
NUM_CONTENTS = NUM_COPIED + NUM_SHARDS * 4


@ray
@with_ray
def test_the_model_is_asked_once_for_each_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two engines; two contents belong to an image that never comes, so they are put off."""

    def start_and_claim(known: Any) -> RemoteLedger:
        ledger = start_ledger(known)
        asked = [Asked(hashlib.sha256(jpeg(i)).hexdigest(), "never") for i in range(2)]
        assert real_ray.get(ledger.actor.claim.remote(asked)) == [Reply.DESCRIBE] * 2
        return ledger

    monkeypatch.setattr("skytext.run.passes.start_ledger", start_and_claim)
    copies = [(f"copy-{i}.jpg", jpeg(i)) for i in range(NUM_COPIED)]
    shards = {f"{i}.tar": [*copies, *images(100 + 4 * i, 4)] for i in range(NUM_SHARDS)}
    root = write_archive(tmp_path / "archive", shards)
    journal, table = tmp_path / "journal", tmp_path / "table"
    settings = {
        "caption__model": f"fake:delay_s=1,journal={journal}",
        "caption__engine__num_engines": 2,
        "caption__engine__num_cpus_per_engine": 0.2,
    }
    seen: list[tuple[bool, int]] = []

    def watch(progress: Progress) -> None:
        seen.append((progress.is_later_pass, progress.num_done))

    plan = plan_caption([str(root)], str(table), config(**settings))
    summary = run_caption(plan, on_progress=watch)
    check_one_row_an_image(table, summary)
    assert summary.num_captioned == summary.num_ok == 8 * NUM_SHARDS
    asked = Counter(journal.read_text().split())
    assert (len(asked), set(asked.values())) == (NUM_CONTENTS, {1})
    assert summary.num_engines >= 2
    # The other images did not wait for those that were put off.
    num_put_off = 2 * NUM_SHARDS
    assert max(done for is_later, done in seen if not is_later) <= 8 * NUM_SHARDS - num_put_off
    assert (True, 8 * NUM_SHARDS) in seen
    captions: dict[str, list[str]] = {}
    for row in rows(table, "content_sha256", "text", "engine_version", "num_output_tokens"):
        captions.setdefault(row["content_sha256"], []).append(row["text"])
        assert row["engine_version"] == "fake 1"
    assert len(captions) == NUM_CONTENTS
    assert all(len(set(texts)) == 1 for texts in captions.values())
