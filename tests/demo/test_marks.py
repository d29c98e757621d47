"""Test the scores of the demonstration checkpoint."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bench.demo_marks import FIRST_SEED, _marks, _parse, _read_raw, _recalls
from skytext.demo.scenes.generate import HELD_OUT_SEED, make_scene
from skytext.demo.scenes.truth_captions import describe, target_text

SCENES = [make_scene(FIRST_SEED + index) for index in range(30)]


def written(index: int) -> str:
    return target_text(describe(SCENES[index], np.random.default_rng(index)))


def test_the_marks_are_of_scenes_never_trained_on() -> None:
    assert FIRST_SEED >= HELD_OUT_SEED


def test_the_truth_gets_full_marks() -> None:
    raw = [{"greedy": [{"text": written(n), "finish_reason": "stop"}]} for n in range(30)]
    marks = _marks(SCENES, _read_raw(raw, "greedy"))
    assert marks.pop("num_descriptions") == 30
    assert set(marks.values()) == {1.0}


def test_an_invalid_description_misses_everything() -> None:
    scene = next(n for n, s in enumerate(SCENES) if s.objects and s.linear_features)
    marks = _marks([SCENES[scene]], {0: [None, json.loads(written(scene))]})
    assert (marks["json_valid"], marks["land_cover"], marks["all_right"]) == (0.5, 0.5, 0.5)
    assert (marks["object_recall"], marks["object_precision"]) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("text", "finish_reason"),
    [
        ("", "stop"),
        ("[]", "stop"),
        ('{"one_sentence": "A.", "feature": "B."}', "stop"),
        ('{"one_sentence": "A.", "feature": "B.", "caption": 3}', "stop"),
        ('{"one_sentence": "A.", "feature": "B.", "caption": ""}', "stop"),
        ('{"one_sentence": "A.", "feature": "B.", "caption": "C."}', "length"),
    ],
)
def test_answers_without_exactly_one_object_give_none(text: str, finish_reason: str) -> None:
    assert _parse(text, finish_reason) is None


def test_recalls_are_shares_of_all_questions() -> None:
    found = _recalls([0, 3, 9, None])
    assert (found["R@1"], found["R@5"], found["R@10"]) == (0.25, 0.5, 0.75)
    assert found["mean"] == 0.5
    assert found["num_questions"] == 4
