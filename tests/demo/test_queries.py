"""Test that the queries use other words than the descriptions, contain all facts and are
reproducible."""

from __future__ import annotations

import re

import numpy as np
import pytest

from skytext.demo.queries import (
    COVER_WORDS,
    LINE_WORDS,
    OBJECT_WORDS,
    fact_set,
    question,
)
from skytext.demo.scenes.generate import HELD_OUT_SEED, make_scene
from skytext.demo.scenes.land_covers import LAND_COVERS
from skytext.demo.scenes.linear_features import LINEAR_KINDS
from skytext.demo.scenes.object_kinds import OBJECT_KINDS
from skytext.demo.scenes.truth_captions import describe

SCENES = [make_scene(HELD_OUT_SEED + 9_000 + index) for index in range(400)]


def asked(index: int, state: int = 0) -> str:
    return question(SCENES[index], np.random.default_rng((SCENES[index].seed, state)))


def test_every_registered_thing_has_words() -> None:
    assert set(COVER_WORDS) == set(LAND_COVERS)
    assert set(LINE_WORDS) == set(LINEAR_KINDS)
    assert set(OBJECT_WORDS) == set(OBJECT_KINDS)


def test_no_question_uses_a_name_of_the_descriptions() -> None:
    names = [word for cover in LAND_COVERS.values() for word in cover.words]
    names += [word for kind in LINEAR_KINDS.values() for word in kind.names]
    names += [word for kind in OBJECT_KINDS.values() for pair in kind.names for word in pair]
    pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, names))})\b")
    for index in range(len(SCENES)):
        assert not pattern.search(asked(index)), asked(index)


def test_no_question_shares_a_run_of_words_with_a_description() -> None:
    for index, scene in enumerate(SCENES[:200]):
        text = " ".join(describe(scene, np.random.default_rng(index)).values()).lower()
        words = re.findall(r"\w+", asked(index))
        for start in range(len(words) - 4):
            run = " ".join(words[start : start + 5])
            assert run not in re.sub(r"\W+", " ", text), run


def test_queries_depend_only_on_the_seed_and_the_state() -> None:
    assert asked(3) == asked(3)
    assert len({asked(3, state) for state in range(20)}) > 3


def test_scenes_with_different_questions_have_different_facts() -> None:
    by_facts: dict[object, list[int]] = {}
    for index, scene in enumerate(SCENES):
        by_facts.setdefault(fact_set(scene), []).append(index)
    assert len(by_facts) > 300
    bare = [scene for scene in SCENES if not scene.objects and not scene.linear_features]
    assert {len(fact_set(scene)) for scene in bare} == {1}


@pytest.mark.parametrize("position", ["north", "centre"])
def test_a_question_names_number_and_place(position: str) -> None:
    found = 0
    for index, scene in enumerate(SCENES):
        for group in scene.objects:
            if group.position == position and group.count == 2:
                assert re.search(r"\b(a pair of|2)\b", asked(index))
                assert ("middle" if position == "centre" else position) in asked(index)
                found += 1
    assert found
