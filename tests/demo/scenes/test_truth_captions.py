"""Test the descriptions that are written from the ground truth, and the facts that are read from
them."""

from __future__ import annotations

import itertools
import json
import re

import numpy as np

from skytext.demo.scenes.generate import HELD_OUT_SEED, make_scene
from skytext.demo.scenes.land_covers import LAND_COVERS
from skytext.demo.scenes.linear_features import LINEAR_KINDS
from skytext.demo.scenes.object_kinds import OBJECT_KINDS
from skytext.demo.scenes.truth_captions import FIELDS, describe, target_text
from skytext.demo.training.score import read_description, score_description, summarise

SEEDS = range(HELD_OUT_SEED + 5_000, HELD_OUT_SEED + 5_400)


def test_descriptions_contain_exactly_the_truth() -> None:
    for seed in SEEDS:
        scene = make_scene(seed)
        facts = read_description(describe(scene, np.random.default_rng(seed)))
        assert facts.land_cover == scene.land_cover
        assert facts.objects == {g.kind: frozenset({g.position}) for g in scene.objects}
        assert facts.linear_features == {
            line.kind: frozenset({line.orientation}) for line in scene.linear_features
        }


def test_a_true_description_scores_full_marks() -> None:
    scores = [
        score_description(make_scene(seed), describe(make_scene(seed), np.random.default_rng(0)))
        for seed in SEEDS
    ]
    summary = summarise(scores)
    assert summary.num_descriptions == len(SEEDS)
    shares = (
        summary.land_cover,
        summary.object_precision,
        summary.object_recall,
        summary.position,
        summary.position_of_named,
        summary.number,
        summary.line_precision,
        summary.line_recall,
        summary.orientation,
    )
    assert shares == (1.0,) * 9


def test_a_wrong_number_is_a_wrong_number() -> None:
    scene = next(s for s in map(make_scene, SEEDS) if [g.count for g in s.objects] == [2])
    description = describe(scene, np.random.default_rng(0))
    described = {
        key: text.replace("Two", "Three").replace("two", "three")
        for key, text in description.items()
    }
    score = score_description(scene, described)
    assert (score.num_objects_right, score.num_numbers_right) == (1, 0)


def test_arrangements_are_described() -> None:
    described = set()
    for seed in SEEDS:
        scene = make_scene(seed)
        text = target_text(describe(scene, np.random.default_rng(seed)))
        for group in scene.objects:
            words = {
                "row": r"in a (row|line)",
                "block": r"in (a block|rows)",
                "scattered": "scattered",
            }
            if group.arrangement in words:
                assert re.search(words[group.arrangement], text)
                described.add(group.arrangement)
    assert described == {"row", "block", "scattered"}


def test_scores_read_the_stored_truth_too() -> None:
    scene = make_scene(5)
    description = describe(scene, np.random.default_rng(0))
    stored = json.loads(json.dumps(scene.as_dict()))
    assert score_description(stored, description) == score_description(scene, description)


def test_a_wrong_description_scores_nothing() -> None:
    scene = next(s for s in map(make_scene, SEEDS) if s.land_cover == "forest" and s.objects)
    wrong = {
        "one_sentence": "The open sea with a ship.",
        "feature": "A small ship in the north; a canal runs from north to south in the east.",
        "caption": "The image shows open water.",
    }
    score = score_description(scene, wrong)
    assert not score.land_cover_right
    assert (score.num_objects_named, score.num_objects_right, score.num_positions_right) == (
        1,
        0,
        0,
    )
    assert score.num_lines_named == 1
    assert summarise([score], num_invalid=1).json_valid == 0.5


def test_wordings_differ_and_repeat_with_the_generator() -> None:
    scene = make_scene(4)
    texts = {target_text(describe(scene, np.random.default_rng(n))) for n in range(20)}
    assert len(texts) > 5
    assert describe(scene, np.random.default_rng(1)) == describe(scene, np.random.default_rng(1))


def test_target_is_plain_json_in_order() -> None:
    for seed in list(SEEDS)[:50]:
        text = target_text(describe(make_scene(seed), np.random.default_rng(seed)))
        assert tuple(json.loads(text)) == FIELDS
        assert text.startswith('{"one_sentence": "')
        assert text.endswith('."}')


def test_no_name_hides_another() -> None:
    covers = [(key, word) for key, cover in LAND_COVERS.items() for word in cover.words]
    objects = [
        (key, word) for key, kind in OBJECT_KINDS.items() for pair in kind.names for word in pair
    ]
    lines = [(key, word) for key, kind in LINEAR_KINDS.items() for word in kind.names]
    for (key, word), (other, longer) in itertools.permutations(covers + objects + lines, 2):
        assert key == other or f" {word} " not in f" {longer} ", (word, longer)


def test_no_percentages_nor_digits() -> None:
    for seed in SEEDS:
        text = target_text(describe(make_scene(seed), np.random.default_rng(seed)))
        assert not any(character.isdigit() or character == "%" for character in text)
