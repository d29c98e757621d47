"""Make descriptions from the ground truth of a scene, in several wordings.

The demonstration checkpoint is trained on these descriptions. A description contains only visible
facts. These facts are the land cover, the texture, the linear features and the objects. Linear
features have an orientation and a position. Objects have a number, a size, an arrangement and a
position. The top of a tile is north. In the fields ``feature`` and ``caption``, each clause names
only one thing, so that ``skytext.demo.training.score`` can parse the clauses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from skytext.demo.scenes.generate import LinearFeature, Scene, SceneObject
from skytext.demo.scenes.land_covers import LAND_COVERS
from skytext.demo.scenes.linear_features import LINEAR_KINDS
from skytext.demo.scenes.object_kinds import OBJECT_KINDS

PROMPT = "Describe this remote sensing image as JSON."
"""The user prompt with which the demonstration checkpoint was trained."""
FIELDS = ("one_sentence", "feature", "caption")
"""The keys of a description, in the order in which they are in the JSON text."""

COUNT_WORDS: Mapping[int, str] = MappingProxyType(
    {1: "one", 2: "two", 3: "three", 4: "four", 5: "several", 6: "several"}
)
"""The word for each number of objects."""

Rng = np.random.Generator

_ADJECTIVES: Mapping[str, str] = MappingProxyType(
    {"centre": "central"}
    | {
        name: f"{name}ern"
        for name in (
            "north",
            "northeast",
            "east",
            "southeast",
            "south",
            "southwest",
            "west",
            "northwest",
        )
    }
)


_ARRANGEMENT_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "close": ("",),
        "row": (" in a row", " in a line"),
        "block": (" in a block", " in rows"),
        "scattered": (" scattered", " loosely scattered"),
    }
)


def describe(scene: Scene, rng: Rng) -> dict[str, str]:
    """Return one description of a scene.

    Args:
        scene: The scene.
        rng: Random generator that chooses the wording. If its state is the same, the description is
            the same.

    Returns:
        A text for each key of ``FIELDS``. ``one_sentence`` names the land cover, all linear
        features and all objects. ``feature`` lists the linear features and objects with their
        directions and positions. ``caption`` is a short paragraph.
    """
    return {
        "one_sentence": _one_sentence(scene, rng),
        "feature": _feature(scene, rng),
        "caption": _caption(scene, rng),
    }


def target_text(description: Mapping[str, str]) -> str:
    """Return the JSON text of a description. The model learns to write this text."""
    return json.dumps({field: description[field] for field in FIELDS})


def _pick(rng: Rng, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _with_article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _cover_phrase(scene: Scene, rng: Rng) -> str:
    phrase = _pick(rng, LAND_COVERS[scene.land_cover].names)
    if scene.water_side is not None:
        phrase += f" with water to the {scene.water_side}"
    return phrase


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _place(position: str, rng: Rng) -> str:
    if position == "centre":
        return _pick(rng, ("in the centre", "in the central part"))
    options = [f"in the {position}", f"in the {_ADJECTIVES[position]} part"]
    if len(position) > len("north"):
        options.append(f"in the {position} corner")
    return _pick(rng, options)


def _arranged(group: SceneObject, rng: Rng) -> str:
    """Return words for the arrangement of a group, or an empty text.

    The words follow after the noun of the group.
    """
    return _pick(rng, _ARRANGEMENT_WORDS[group.arrangement])


def _direction(line: LinearFeature) -> str:
    return "from {} to {}".format(*line.orientation.split("-"))


def _object_noun(group: SceneObject, rng: Rng, *, sized: bool) -> str:
    names = OBJECT_KINDS[group.kind].names
    singular, plural = names[int(rng.integers(len(names)))]
    noun = singular if group.count == 1 else plural
    if sized:
        noun = f"{group.size} {noun}"
    if group.count == 1:
        return _with_article(noun)
    return f"{COUNT_WORDS[group.count]} {noun}"


def _line_noun(line: LinearFeature, rng: Rng) -> str:
    return _with_article(_pick(rng, LINEAR_KINDS[line.kind].names))


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _one_sentence(scene: Scene, rng: Rng) -> str:
    opening = _pick(rng, ("", "a view of ", "an image of "))
    parts = [_line_noun(line, rng) for line in scene.linear_features]
    parts += [_object_noun(group, rng, sized=False) for group in scene.objects]
    text = opening + _cover_phrase(scene, rng)
    if parts:
        text += _pick(rng, (" with ", " containing ") if scene.water_side is None else (", and ",))
        text += _joined(parts)
    else:
        text += " " + _pick(rng, ("without distinct objects", "and nothing else"))
    return _sentence(text)


def _feature(scene: Scene, rng: Rng) -> str:
    clauses = []
    for line in scene.linear_features:
        noun = _line_noun(line, rng)
        clauses.append(f"{noun} runs {_direction(line)} {_place(line.position, rng)}")
    for group in scene.objects:
        noun = _object_noun(group, rng, sized=True)
        clauses.append(f"{noun}{_arranged(group, rng)} {_place(group.position, rng)}")
    if scene.water_side is not None:
        clauses.insert(0, f"water on the {_ADJECTIVES[scene.water_side]} side")
    if not clauses:
        clauses.append(_pick(rng, ("no distinct features", "a uniform surface")))
    return _sentence("; ".join(clauses))


def _caption(scene: Scene, rng: Rng) -> str:
    opening = _pick(
        rng, ("the image shows", "the scene shows", "this image shows", "the picture shows")
    )
    texture = _pick(rng, LAND_COVERS[scene.land_cover].textures)
    sentences = [f"{opening} {_cover_phrase(scene, rng)}, {texture}"]
    for line in scene.linear_features:
        noun = _line_noun(line, rng)
        verb = _pick(rng, ("crosses", "passes through", "runs through"))
        sentences.append(f"{noun} {verb} the {line.position} {_direction(line)}")
    for group in scene.objects:
        noun = _object_noun(group, rng, sized=bool(rng.random() < 0.5))
        verb = "is" if group.count == 1 else "are"
        sentences.append(f"{noun} {verb}{_arranged(group, rng)} {_place(group.position, rng)}")
    if not scene.linear_features and not scene.objects:
        sentences.append(_pick(rng, ("nothing else stands out", "no objects are visible")))
    return " ".join(_sentence(sentence) for sentence in sentences)
