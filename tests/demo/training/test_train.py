"""Test the training with a network of a few thousand parameters."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from skytext.demo.checkpoint_shape import NUM_IMAGE_TOKENS, ModelShape
from skytext.demo.scenes.generate import HELD_OUT_SEED
from skytext.demo.scenes.linear_features import LINEAR_KINDS
from skytext.demo.scenes.object_kinds import OBJECT_KINDS
from skytext.demo.scenes.truth_captions import PROMPT
from skytext.demo.training.plot import read_curves
from skytext.demo.training.train import (
    Recipe,
    Trainer,
    make_batch,
    parse_description,
    prompt_ids,
)

TINY = ModelShape(
    vision_width=64, vision_layers=1, vision_mlp=64, text_width=64, text_layers=1, text_mlp=64
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def tiny(**changes: int) -> Recipe:
    values = {
        "steps": 10,
        "batch_size": 4,
        "num_tokenizer_scenes": 60,
        "num_scored": 2,
        "score_every": 1000,
        "save_every": 1000,
    } | changes
    return Recipe(shape=TINY, **values)  # type: ignore[arg-type]


def test_same_seed_same_first_losses(tmp_path: Path) -> None:
    first = Trainer(tmp_path / "a", tiny()).train()
    again = Trainer(tmp_path / "b", tiny()).train()
    other = Trainer(tmp_path / "c", tiny(seed=1)).train()
    assert len(first) == 10
    assert first == again
    assert first != other
    assert first[-1] < first[0]


def test_a_continued_training_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = Trainer(tmp_path / "whole", tiny(steps=6)).train()

    class Stop(Exception):
        pass

    class StoppedTrainer(Trainer):
        def learning_rate(self) -> float:
            if self.step == 3:
                raise Stop
            return super().learning_rate()

    stopped = StoppedTrainer(tmp_path / "cut", tiny(steps=6, save_every=3))
    with pytest.raises(Stop):
        stopped.train()
    resumed = Trainer(tmp_path / "cut", tiny(steps=6))
    assert resumed.resume()
    assert resumed.train() == whole[3:]


def test_repeated_steps_are_logged_once(tmp_path: Path) -> None:
    Trainer(tmp_path, tiny(steps=4)).train()
    lost = {"step": 4, "trained_s": 9.0, "loss": 1.0, "facts_loss": 1.0}
    log = tmp_path / "log.jsonl"
    log.write_text(log.read_text() + json.dumps(lost) + "\n")
    resumed = Trainer(tmp_path, tiny(steps=6))
    assert resumed.resume()
    resumed.train()
    records = [json.loads(line) for line in log.read_text().splitlines()]
    steps = [record["step"] for record in records if "scores" not in record]
    assert steps == [0, 1, 2, 3, 4, 5]
    assert [record["step"] for record in records if "scores" in record] == [4, 6]


def test_a_fresh_folder_has_nothing_to_resume(tmp_path: Path) -> None:
    assert not Trainer(tmp_path, tiny()).resume()


def test_log_and_checkpoint_are_written(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, tiny(steps=2))
    trainer.train()
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [0, 1, 2]
    assert {"loss", "facts_loss", "learning_rate"} <= set(records[1])
    assert records[-1]["scores"]["num_descriptions"] == 2
    assert (tmp_path / "checkpoint" / "model.safetensors").exists()
    with Image.open(tmp_path / "training.png") as plot:
        assert plot.size[0] > 500


def test_the_facts_come_before_the_text(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, tiny(steps=8))
    before = trainer.model.lm_head.weight.detach().clone()
    trainer.train()
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    steps = [record for record in records if "scores" not in record]
    assert ["loss" in record for record in steps] == [False] * 2 + [True] * 6
    assert trainer.text_from == 2
    assert not torch.equal(before, trainer.model.lm_head.weight)


def test_the_plot_reads_losses_and_scores(tmp_path: Path) -> None:
    Trainer(tmp_path, tiny(steps=4)).train()
    losses, scores = read_curves(tmp_path / "log.jsonl")
    assert set(losses) == {"facts", "text"}
    assert len(scores["land_cover"]) == 1


def test_training_never_uses_held_out_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[range] = []

    def watch(seeds: range, tokenizer: object) -> object:
        drawn.append(seeds)
        raise KeyboardInterrupt

    monkeypatch.setattr("skytext.demo.training.train.make_batch", watch)
    for seed in (0, 1, 99, 12_345):
        trainer = Trainer(tmp_path, tiny(seed=seed))
        trainer.step = 10_000_000
        trainer.recipe = tiny(seed=seed, steps=10**9)
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
    assert len(drawn) == 4
    assert all(0 <= seeds.start < seeds.stop <= HELD_OUT_SEED for seeds in drawn)


def test_batch_holds_images_targets_and_facts(tmp_path: Path) -> None:
    tokenizer = Trainer(tmp_path, tiny()).tokenizer
    batch = make_batch(range(5), tokenizer)
    assert batch.pixels.shape == (5, 3, 112, 112)
    assert batch.pixels.dtype == torch.float32
    assert batch.targets.shape == batch.is_target.shape
    assert batch.cells.shape == (5, 9, 4)
    assert batch.patches.shape == (5, NUM_IMAGE_TOKENS, len(LINEAR_KINDS) + len(OBJECT_KINDS))
    for row, counted in zip(batch.targets, batch.is_target, strict=True):
        text = tokenizer.decode(row[counted].tolist(), skip_special_tokens=True)
        assert parse_description(text) is not None
    assert np.isfinite(batch.pixels.numpy()).all()


def test_prompt_holds_one_run_of_image_tokens(tmp_path: Path) -> None:
    tokenizer = Trainer(tmp_path, tiny()).tokenizer
    ids = prompt_ids(tokenizer)
    image = tokenizer.token_to_id("<image>")
    assert ids.count(image) == NUM_IMAGE_TOKENS
    assert PROMPT in tokenizer.decode(ids)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"one_sentence": "a"}', '{"one_sentence": 1, "feature": "", "caption": ""}'],
)
def test_an_invalid_description_parses_to_none(text: str) -> None:
    assert parse_description(text) is None
