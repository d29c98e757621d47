"""Parse a description into facts, and compare the facts with the ground truth of the scene."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from skytext.demo.scenes.generate import Scene
from skytext.demo.scenes.land_covers import LAND_COVERS
from skytext.demo.scenes.linear_features import LINEAR_KINDS
from skytext.demo.scenes.object_kinds import OBJECT_KINDS
from skytext.demo.scenes.truth_captions import COUNT_WORDS, FIELDS

_DIRECTION = re.compile(r"\bfrom (\w+) to (\w+)\b")
_POSITION = re.compile(r"\b(?:(north|south)?(east|west)?(?:ern)?|(centre|central))\b")


@dataclass(frozen=True)
class Facts:
    """The facts in a description.

    Attributes:
        land_cover: The first named land cover. None if no land cover is named.
        objects: The positions that are named for each kind of object.
        linear_features: The orientations that are named for each kind of linear feature.
        numbers: The number words that are named for each kind of object. The word "a" is stored as
            "one".
    """

    land_cover: str | None
    objects: Mapping[str, frozenset[str]]
    linear_features: Mapping[str, frozenset[str]]
    numbers: Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class DescriptionScore:
    """The score of one description.

    All numbers are numbers of kinds, not numbers of single objects.

    Attributes:
        land_cover_right: True if the first named land cover is correct.
        num_objects: Number of kinds of objects in the scene.
        num_objects_named: Number of kinds of objects that the description names.
        num_objects_right: Number of kinds of objects that are in the scene and in the description.
        num_positions_right: Number of kinds of objects that are in the scene and for which the
            description names the correct position and no other position.
        num_numbers_right: Number of kinds of objects that are in the scene and for which the
            description names the correct number and no other number.
        num_lines: Number of linear features in the scene.
        num_lines_named: Number of linear features that the description names.
        num_lines_right: Number of linear features that are in the scene and in the description.
        num_orientations_right: Number of linear features that are in the scene and for which the
            description names the correct orientation and no other orientation.
    """

    land_cover_right: bool
    num_objects: int
    num_objects_named: int
    num_objects_right: int
    num_positions_right: int
    num_numbers_right: int
    num_lines: int
    num_lines_named: int
    num_lines_right: int
    num_orientations_right: int


@dataclass(frozen=True)
class ScoreSummary:
    """Scores of many descriptions. Each score is a share from 0 to 1.

    Attributes:
        num_descriptions: Number of descriptions, including descriptions that are not valid JSON.
        json_valid: Share of descriptions that are JSON objects with exactly the required keys.
        land_cover: Share of descriptions with the correct land cover. A description with invalid
            JSON is counted as wrong.
        object_precision: Of the kinds of objects that are named, the share that is in the scene.
        object_recall: Of the kinds of objects in the scene, the share that is named.
        position: Of the kinds of objects in the scene, the share that is named with the correct
            position.
        position_of_named: Of the kinds of objects that are in the scene and are named, the share
            that has the correct position.
        number: Of the kinds of objects in the scene, the share that is named with the correct
            number. For the numbers five and six, the correct word is "several".
        line_precision: Of the linear features that are named, the share that is in the scene.
        line_recall: Of the linear features in the scene, the share that is named.
        orientation: Of the linear features in the scene, the share that is named with the correct
            orientation.
    """

    num_descriptions: int
    json_valid: float
    land_cover: float
    object_precision: float
    object_recall: float
    position: float
    position_of_named: float
    number: float
    line_precision: float
    line_recall: float
    orientation: float


def read_description(description: Mapping[str, str]) -> Facts:
    """Return the facts in a description.

    The words for the facts are defined in the tables of land covers and kinds.
    """
    fields = [description.get(field, "") for field in FIELDS]
    objects: dict[str, set[str]] = {}
    lines: dict[str, set[str]] = {}
    numbers: dict[str, set[str]] = {}
    for field in fields:
        for clause in re.split(r"[.;]", field.lower()):
            orientations = {f"{a}-{b}" for a, b in _DIRECTION.findall(clause)}
            positions = _positions(_DIRECTION.sub(" ", clause))
            for kind in _named(clause, "object"):
                objects.setdefault(kind, set())
                # The first field lists all objects in one clause, so a position in this field
                # cannot be assigned to an object. In the other two fields, each clause contains
                # only one object.
                if field is not fields[0]:
                    objects[kind] |= positions
                numbers.setdefault(kind, set())
                numbers[kind] |= _numbers(clause, kind)
            for kind in _named(clause, "line"):
                lines.setdefault(kind, set())
                lines[kind] |= orientations
    covers = [kind for field in fields for kind in _named(field.lower(), "cover")]
    return Facts(
        land_cover=covers[0] if covers else None,
        objects={kind: frozenset(found) for kind, found in objects.items()},
        linear_features={kind: frozenset(found) for kind, found in lines.items()},
        numbers={kind: frozenset(found) for kind, found in numbers.items()},
    )


def score_description(
    scene_truth: Scene | Mapping[str, Any], description: Mapping[str, str]
) -> DescriptionScore:
    """Score one description.

    Args:
        scene_truth: The scene, or the dictionary that ``Scene.as_dict`` returns (as in
            ``truth.jsonl``).
        description: Texts with the keys of ``FIELDS``. A missing key counts as an empty text.
    """
    truth = scene_truth.as_dict() if isinstance(scene_truth, Scene) else scene_truth
    facts = read_description(description)
    objects = {group["kind"]: group["position"] for group in truth["objects"]}
    numbers = {group["kind"]: COUNT_WORDS[group["count"]] for group in truth["objects"]}
    lines = {line["kind"]: line["orientation"] for line in truth["linear_features"]}
    return DescriptionScore(
        land_cover_right=facts.land_cover == truth["land_cover"],
        num_objects=len(objects),
        num_objects_named=len(facts.objects),
        num_objects_right=len(objects.keys() & facts.objects.keys()),
        num_positions_right=sum(
            facts.objects.get(kind, frozenset()) == {position} for kind, position in objects.items()
        ),
        num_numbers_right=sum(
            facts.numbers.get(kind, frozenset()) == {number} for kind, number in numbers.items()
        ),
        num_lines=len(lines),
        num_lines_named=len(facts.linear_features),
        num_lines_right=len(lines.keys() & facts.linear_features.keys()),
        num_orientations_right=sum(
            facts.linear_features.get(kind, frozenset()) == {orientation}
            for kind, orientation in lines.items()
        ),
    )


def summarise(scores: Iterable[DescriptionScore], *, num_invalid: int = 0) -> ScoreSummary:
    """Combine many scores to shares.

    Args:
        scores: One score for each description with valid JSON.
        num_invalid: Number of descriptions with invalid JSON. These descriptions have no score.
    """
    counted = list(scores)
    total = len(counted) + num_invalid

    def share(right: str, of: str) -> float:
        whole: int = sum(getattr(score, of) for score in counted)
        if not whole:
            # There was nothing to find. In this case, the share is 1 if all descriptions are valid,
            # and 0 if a description is invalid.
            return 0.0 if num_invalid else 1.0
        found: int = sum(getattr(score, right) for score in counted)
        return found / whole

    return ScoreSummary(
        num_descriptions=total,
        json_valid=len(counted) / total if total else 1.0,
        land_cover=sum(score.land_cover_right for score in counted) / total if total else 1.0,
        object_precision=share("num_objects_right", "num_objects_named"),
        object_recall=share("num_objects_right", "num_objects"),
        position=share("num_positions_right", "num_objects"),
        position_of_named=share("num_positions_right", "num_objects_right"),
        number=share("num_numbers_right", "num_objects"),
        line_precision=share("num_lines_right", "num_lines_named"),
        line_recall=share("num_lines_right", "num_lines"),
        orientation=share("num_orientations_right", "num_lines"),
    )


def _numbers(clause: str, kind: str) -> set[str]:
    """Return the number words that directly precede the names of a kind in a clause."""
    return {"one" if word in ("a", "an") else word for word in _counted(kind).findall(clause)}


@functools.cache
def _counted(kind: str) -> re.Pattern[str]:
    words = "|".join(("a", "an", *sorted(set(COUNT_WORDS.values()))))
    names = "|".join(word for pair in OBJECT_KINDS[kind].names for word in pair)
    return re.compile(rf"\b({words})\s+(?:(?:small|large)\s+)?(?:{names})\b")


def _positions(clause: str) -> set[str]:
    found = set()
    for upright, sideways, middle in _POSITION.findall(clause):
        if middle:
            found.add("centre")
        elif upright or sideways:
            found.add(upright + sideways)
    return found


@functools.cache
def _patterns(family: str) -> tuple[tuple[str, re.Pattern[str]], ...]:
    words: dict[str, list[str]]
    if family == "cover":
        words = {name: list(cover.words) for name, cover in LAND_COVERS.items()}
    elif family == "line":
        words = {name: [word + "s?" for word in kind.names] for name, kind in LINEAR_KINDS.items()}
    else:
        words = {
            name: [word for pair in kind.names for word in pair]
            for name, kind in OBJECT_KINDS.items()
        }
    return tuple(
        (name, re.compile(rf"\b(?:{'|'.join(alternatives)})\b"))
        for name, alternatives in words.items()
    )


def _named(text: str, family: str) -> list[str]:
    """Return the kinds of a family that occur in a text, in the order of their first occurrence."""
    found = []
    for name, pattern in _patterns(family):
        match = pattern.search(text)
        if match:
            found.append((match.start(), name))
    return [name for _, name in sorted(found)]
