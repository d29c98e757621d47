from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from skytext.archive import ReadLimits, Shard
from skytext.run.control.prepare_table import Prepared
from skytext.run.plans.caption_plan import plan_caption
from skytext.run.progress import Progress
from skytext.run.proof.walk_headers import HeaderWalk
from skytext.run.prove_run import prove_headers
from skytext.run.stages.read_shards import ShardReader
from skytext.run.worklist import open_index, plan_shards
from skytext.table.commits.adoption import Adoption
from tests.archives import images, write_archive
from tests.run.jobs import config


def test_all_headers_are_those_of_the_shards_that_some_run_has_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked: list[str] = []

    def walk_shards(walk: HeaderWalk, shards: Sequence[Shard], **_: Any) -> list[str]:
        walked.extend(shard.path for shard in shards)
        return walk(shards)

    monkeypatch.setattr("skytext.run.prove_run.walk_shards", walk_shards)
    root = write_archive(tmp_path / "aerial", {"a.tar": images(0, 2), "new.tar": images(2, 2)})
    plan = replace(plan_caption([str(root)], str(tmp_path / "table"), config()), retry_failed=True)
    read, _ = plan.shards
    list(ShardReader(99, 10**9, ReadLimits(), plan.location, None).units(read))
    index = open_index(plan.location, None, plan.shards, plan.options())
    plans = tuple(plan_shards(plan.location, index, plan.shards, plan.options()))
    prepared = Prepared(Adoption(None), plans)
    prove_headers(plan, prepared, Progress(0), None, num_tasks=1, on_wait=lambda: None)
    assert walked == ["a.tar"]
