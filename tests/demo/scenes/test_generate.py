"""Test that the generator makes repeatable and plausible scenes that match their ground truth."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math

import numpy as np
import pytest

from skytext.demo.scenes.canvas import Sensor
from skytext.demo.scenes.generate import (
    HELD_OUT_SEED,
    METRES_PER_DEGREE,
    POSITIONS,
    REFERENCE_PX,
    Scene,
    cell_centre,
    group_places,
    line_paths,
    make_scene,
    render,
)
from skytext.demo.scenes.land_covers import LAND_COVERS, SIDE_VECTORS
from skytext.demo.scenes.linear_features import LINEAR_KINDS, ORIENTATIONS
from skytext.demo.scenes.object_kinds import ARRANGEMENTS, OBJECT_KINDS

SCENES = [make_scene(HELD_OUT_SEED + 7_000 + index) for index in range(1500)]


def one(land_cover: str, *, bare: bool = True) -> Scene:
    for scene in SCENES:
        if scene.land_cover == land_cover and not (
            bare and (scene.objects or scene.linear_features)
        ):
            return scene
    raise LookupError(land_cover)


def test_same_seed_same_scene_and_pixels() -> None:
    assert make_scene(11) == make_scene(11)
    assert make_scene(11) != make_scene(12)
    np.testing.assert_array_equal(render(make_scene(11)), render(make_scene(11)))


def test_pixels_have_the_requested_shape() -> None:
    for size_px in (64, 112, 224, 300):
        pixels = render(make_scene(3), size_px)
        assert pixels.shape == (size_px, size_px, 3)
        assert pixels.dtype == np.uint8


@pytest.mark.parametrize("seed", range(0, 40, 3))
def test_content_does_not_depend_on_the_resolution(seed: int) -> None:
    small = render(make_scene(seed), 112).astype(np.float32)
    large = render(make_scene(seed), 224).astype(np.float32)
    averaged = large.reshape(14, 16, 14, 16, 3).mean(axis=(1, 3))
    blocks = small.reshape(14, 8, 14, 8, 3).mean(axis=(1, 3))
    assert np.abs(averaged - blocks).mean() < 6.0


def test_every_registered_thing_occurs() -> None:
    assert {scene.land_cover for scene in SCENES} == set(LAND_COVERS)
    lines = [line for scene in SCENES for line in scene.linear_features]
    assert {line.kind for line in lines} == set(LINEAR_KINDS)
    assert {line.orientation for line in lines} == set(ORIENTATIONS)
    groups = [group for scene in SCENES for group in scene.objects]
    assert {group.kind for group in groups} == set(OBJECT_KINDS)
    assert {group.position for group in groups} == set(POSITIONS)
    assert {group.count for group in groups} == {1, 2, 3, 4, 5, 6}
    assert any(not scene.objects for scene in SCENES)


def test_scenes_are_plausible() -> None:
    for scene in SCENES:
        lines = {line.kind for line in scene.linear_features}
        assert len(lines) == len(scene.linear_features)
        places = [group.position for group in scene.objects]
        assert len(set(places)) == len(places)
        for line in scene.linear_features:
            assert scene.land_cover in LINEAR_KINDS[line.kind].covers
        for group in scene.objects:
            kind = OBJECT_KINDS[group.kind]
            assert scene.land_cover in kind.covers
            assert kind.beside is None or kind.beside in lines
            extent_m = scene.gsd * REFERENCE_PX
            assert kind.extent_m[0] * 0.99 <= extent_m <= kind.extent_m[1] * 1.01


def test_ships_are_on_the_water_side() -> None:
    found = 0
    for scene in SCENES:
        for group in scene.objects:
            if scene.water_side is None or group.kind != "ship":
                continue
            x, y = cell_centre(group.position)
            towards_x, towards_y = SIDE_VECTORS[scene.water_side]
            assert (x - 0.5) * towards_x + (y - 0.5) * towards_y > 0.2
            found += 1
    assert found > 5


def test_geography_agrees_with_the_pixels() -> None:
    for scene in SCENES[:200]:
        west, south, east, north = scene.bbox
        assert -180.0 <= west < east <= 180.0
        assert -90.0 <= south < north <= 90.0
        height_m = (north - south) * METRES_PER_DEGREE
        width_m = (east - west) * METRES_PER_DEGREE * math.cos(math.radians((north + south) / 2))
        assert height_m == pytest.approx(scene.gsd * REFERENCE_PX, rel=0.01)
        assert width_m == pytest.approx(scene.gsd * REFERENCE_PX, rel=0.01)
        assert scene.gsd_at(112) == pytest.approx(2 * scene.gsd)
        assert scene.datetime.tzinfo is dt.UTC


def test_shadows_fall_away_from_the_sun() -> None:
    for scene in SCENES[:200]:
        # North of the equator the midday sun is in the south.
        assert (scene.light.shadow_y < 0) == (scene.bbox[1] >= 0)
        assert math.hypot(scene.light.shadow_x, scene.light.shadow_y) == pytest.approx(1, abs=0.01)


def test_land_covers_look_like_what_they_are() -> None:
    means = {name: render(one(name), 64).mean(axis=(0, 1)) for name in ("sea", "snow", "forest")}
    assert means["sea"][2] > means["sea"][0] + 20
    assert means["snow"].min() > 150
    assert means["forest"].mean() < 110
    desert = render(one("desert"), 64).mean(axis=(0, 1))
    assert desert[0] > desert[2] + 30


def test_water_is_on_the_side_that_the_truth_says() -> None:
    seen = set()
    for scene in SCENES:
        if scene.water_side is None or scene.objects or scene.water_side in seen:
            continue
        pixels = render(scene, 60).astype(np.float32)
        blue = pixels[..., 2] - pixels[..., 0]
        strips = {
            "north": blue[:15],
            "south": blue[-15:],
            "west": blue[:, :15],
            "east": blue[:, -15:],
        }
        assert max(strips, key=lambda side: strips[side].mean()) == scene.water_side
        seen.add(scene.water_side)
    assert seen == set(SIDE_VECTORS)


def test_objects_change_their_own_part_of_the_tile_alone() -> None:
    checked = 0
    for scene in SCENES[:300]:
        if len(scene.objects) != 1 or OBJECT_KINDS[scene.objects[0].kind].on in LINEAR_KINDS:
            continue
        without = dataclasses.replace(scene, objects=())
        changed = np.abs(render(scene, 90).astype(int) - render(without, 90)).sum(axis=2) > 60
        assert changed.sum() > 8, scene
        rows, columns = np.nonzero(changed)
        x, y = cell_centre(scene.objects[0].position)
        # The centre of the object is in the named part. Shadows and wakes may extend beyond this
        # part.
        assert abs((columns.mean() + 0.5) / 90 - x) < 1 / 6, scene
        assert abs((rows.mean() + 0.5) / 90 - y) < 1 / 6, scene
        checked += 1
    assert checked > 60


def test_lines_run_where_the_truth_says() -> None:
    checked = 0
    for scene in SCENES:
        if len(scene.linear_features) != 1 or scene.objects:
            continue
        line = scene.linear_features[0]
        bare = dataclasses.replace(scene, linear_features=())
        changed = np.abs(render(scene, 90).astype(int) - render(bare, 90)).sum(axis=2) > 40
        rows, columns = np.nonzero(changed)
        spread = np.cov(np.stack([columns, rows]))
        _, vectors = np.linalg.eigh(spread)
        found = math.atan2(vectors[1, 1], vectors[0, 1]) % math.pi
        turn = abs(found - ORIENTATIONS[line.orientation])
        if line.position == "centre":
            assert min(turn, math.pi - turn) < 0.35, scene
            checked += 1
    assert checked > 30


def test_tiles_are_of_a_third_of_a_metre_to_ten_metres() -> None:
    found = sorted(scene.gsd for scene in SCENES)
    assert 0.3 <= found[0] < 0.5
    assert 8.0 < found[-1] <= 10.0


def test_sensors_differ() -> None:
    scene = one("desert")
    flat = dataclasses.replace(scene, sensor=Sensor(noise=1, blur=0.0))
    noisy = dataclasses.replace(scene, sensor=Sensor(noise=8, blur=0.0))
    blurred = dataclasses.replace(scene, sensor=Sensor(noise=1, blur=0.005))

    def roughness(which: Scene) -> float:
        return float(np.abs(np.diff(render(which, 112).astype(np.float32), axis=1)).mean())

    assert roughness(blurred) < roughness(flat) < roughness(noisy)
    assert {scene.sensor.noise for scene in SCENES} == set(range(1, 9))


def test_groups_stand_as_the_truth_says() -> None:
    seen = set()
    for scene in SCENES:
        for group, (points, _) in zip(scene.objects, group_places(scene), strict=True):
            assert len(points) == group.count
            assert group.arrangement in ARRANGEMENTS
            assert (group.arrangement == "close") == (group.count <= 2)
            seen.add(group.arrangement)
            columns = {round(x, 3) for x, _ in points}
            rows = {round(y, 3) for _, y in points}
            if group.arrangement == "row":
                assert 1 in (len(columns), len(rows))
            if group.arrangement == "scattered":
                assert min(len(columns), len(rows)) > 1
            if group.arrangement == "block":
                assert len(rows) == 2
            middle = np.mean(points, axis=0)
            if OBJECT_KINDS[group.kind].on in ("land", "water"):
                assert np.abs(middle - cell_centre(group.position)).max() < 0.03
    assert seen == set(ARRANGEMENTS)


def test_objects_on_a_line_have_its_place_and_direction() -> None:
    seen = set()
    for scene in SCENES:
        paths = dict(zip([n.kind for n in scene.linear_features], line_paths(scene), strict=True))
        for group, (points, angle) in zip(scene.objects, group_places(scene), strict=True):
            on = OBJECT_KINDS[group.kind].on
            if on not in LINEAR_KINDS:
                continue
            distance = np.hypot(*(paths[on] - points[0]).T)
            assert distance.min() < 1e-9
            line = next(n for n in scene.linear_features if n.kind == on)
            turn = abs((angle - ORIENTATIONS[line.orientation] + math.pi / 2) % math.pi)
            assert abs(turn - math.pi / 2) < 0.7
            seen.add(group.kind)
    assert seen == {"roundabout", "bridge", "interchange"}


def test_truth_is_json() -> None:
    record = SCENES[0].as_dict()
    assert json.loads(json.dumps(record)) == record
    assert record["datetime"].endswith("Z")
