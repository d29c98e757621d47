"""Make queries for generated scenes, with words that a user might choose.

Queries and reference descriptions are both made from the ground truth. Queries use different
sentences, and different names for all things, so that a search can find a scene only by its
meaning. Only the compass directions are the same words, because compass directions have no
synonyms. The queries are used to measure text-to-image retrieval. They are not used for training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from skytext.demo.scenes.generate import LinearFeature, Scene, SceneObject

Rng = np.random.Generator
Fact = tuple[str, ...]

COVER_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "farmland": ("agricultural fields", "plots where crops grow"),
        "forest": ("dense woods", "thick trees everywhere"),
        "desert": ("sand dunes", "dry dunes of sand"),
        "bare_land": ("barren brown ground", "dry empty dirt"),
        "sea": ("the wide blue sea", "the deep sea far from land"),
        "beach": ("the seashore", "a shoreline of sand"),
        "snow": ("snow and ice", "snowy winter ground"),
        "grassland": ("green pasture", "a grassy plain"),
        "residential": ("a suburb of family homes", "a neighbourhood of homes"),
        "industrial": ("factory buildings", "a site of factories"),
        "commercial": ("a city of skyscrapers", "high-rise buildings of a big city"),
        "harbour": ("docks for cargo", "a dockyard"),
        "wetland": ("swampland", "a swamp full of puddles"),
        "mountains": ("steep peaks", "rugged highlands"),
        "orchard": ("fruit trees planted in a grid", "a grove of fruit trees"),
    }
)
"""Query words for each land cover."""

LINE_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "river": ("a stream", "a meandering stream"),
        "canal": ("an artificial waterway", "a man-made waterway"),
        "road": ("an asphalt street", "a two-lane street"),
        "railway": ("train tracks", "rail tracks"),
        "runway": ("a landing strip", "an airstrip"),
        "motorway": ("a dual carriageway", "a multi-lane highway"),
        "power_line": ("electricity pylons", "high-voltage cables"),
    }
)
"""Query words for each linear feature."""

OBJECT_WORDS: Mapping[str, tuple[tuple[str, str], ...]] = MappingProxyType(
    {
        "storage_tank": (("oil tank", "oil tanks"), ("round petroleum tank", "petroleum tanks")),
        "ship": (("cargo boat", "cargo boats"), ("boat", "boats")),
        "aircraft": (("plane", "planes"), ("parked jet", "parked jets")),
        "solar_farm": (("field of photovoltaic panels", "fields of photovoltaic panels"),),
        "swimming_pool": (("backyard pool", "backyard pools"),),
        "baseball_field": (("ballpark", "ballparks"), ("place to play baseball", "ballparks")),
        "stadium": (("sports arena", "sports arenas"),),
        "parking_lot": (("place for parking cars", "places for parking cars"),),
        "roundabout": (("rotary intersection", "rotary intersections"),),
        "irrigated_circle": (("round crop field watered by a pivot", "round crop fields"),),
        "wind_turbine": (("windmill", "windmills"), ("wind power mast", "wind power masts")),
        "pond": (("small body of fresh water", "small bodies of fresh water"),),
        "barn": (("farm shed with a red roof", "farm sheds with red roofs"),),
        "tennis_court": (("place to play tennis", "courts to play tennis"),),
        "greenhouse": (("hothouse made of glass", "hothouses made of glass"),),
        "island": (("islet", "islets"),),
        "clearing": (("patch of felled trees", "patches of felled trees"),),
        "warehouse": (
            ("freight depot", "freight depots"),
            ("storage hall for goods", "storage halls"),
        ),
        "bridge": (("viaduct over the water", "viaducts over the water"),),
        "interchange": (("highway junction with ramps", "highway junctions with ramps"),),
        "quarry": (("open-cast mine", "open-cast mines"), ("stone mine", "stone mines")),
    }
)
"""Query words for each kind of object: singular and plural."""

_NUMBERS: Mapping[int, tuple[str, ...]] = MappingProxyType(
    {
        2: ("a pair of", "2"),
        3: ("a trio of", "3"),
        4: ("a group of 4", "4"),
        5: ("a number of", "a good many"),
        6: ("a number of", "a good many"),
    }
)
_PLACES: Mapping[str, str] = MappingProxyType(
    {
        "centre": "right in the middle",
        "north": "on the north side",
        "south": "on the south side",
        "east": "on the east side",
        "west": "on the west side",
        "northeast": "on the northeast side",
        "northwest": "on the northwest side",
        "southeast": "on the southeast side",
        "southwest": "on the southwest side",
    }
)
_WAYS: Mapping[str, str] = MappingProxyType(
    {
        "east-west": "going west to east",
        "north-south": "going north to south",
        "northwest-southeast": "going northwest to southeast",
        "northeast-southwest": "going northeast to southwest",
    }
)
_OPENINGS = ("find {}", "show me {}", "{}")


def question(scene: Scene, rng: Rng) -> str:
    """Return a query that states all facts of ``fact_set``.

    The query uses different words than the descriptions.

    Args:
        scene: The scene that a search with the query must find.
        rng: Random generator that chooses the wording. If its state is the same, the query is the
            same.
    """
    things = [_object(group, rng) for group in scene.objects]
    things += [_line(line, rng) for line in scene.linear_features]
    ground = _pick(rng, COVER_WORDS[scene.land_cover])
    if scene.water_side is not None:
        ground += f", the water lying {scene.water_side}"
    text = f"{_listed(things)}, amid {ground}" if things else f"only {ground}, nothing built there"
    return _pick(rng, _OPENINGS).format(text)


def fact_set(scene: Scene) -> frozenset[Fact]:
    """Return the facts that the query for a scene states.

    The fact is the same for five objects of a kind and for six objects of a kind.
    """
    facts: list[Fact] = [("cover", scene.land_cover, scene.water_side or "")]
    facts += [
        ("line", line.kind, line.orientation, line.position) for line in scene.linear_features
    ]
    facts += [
        ("object", group.kind, str(min(group.count, 5)), group.position) for group in scene.objects
    ]
    return frozenset(facts)


def _object(group: SceneObject, rng: Rng) -> str:
    one, many = OBJECT_WORDS[group.kind][int(rng.integers(len(OBJECT_WORDS[group.kind])))]
    if group.count == 1:
        noun = f"an {one}" if one[0] in "aeiou" else f"a {one}"
    else:
        noun = f"{_pick(rng, _NUMBERS[group.count])} {many}"
    return f"{noun} {_PLACES[group.position]}"


def _line(line: LinearFeature, rng: Rng) -> str:
    return f"{_pick(rng, LINE_WORDS[line.kind])} {_WAYS[line.orientation]} {_PLACES[line.position]}"


def _listed(parts: Sequence[str]) -> str:
    return " and ".join(parts)


def _pick(rng: Rng, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]
