"""Test one kill of a running job. `make proof` tests a hundred kills."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.archives import images, write_archive
from tests.proof.kill_matrix import Tally, kill_once, make_scene
from tests.proof.test_kill_matrix import FAKES
from tests.run.jobs import local_ray_address, ray, with_ray


@ray
@with_ray
@pytest.mark.timeout(600)
def test_a_killed_driver_neither_loses_nor_duplicates_rows(tmp_path: Path) -> None:
    """The killed run starts its own Ray.

    The other runs use the Ray of the test session (`local_ray`).
    """
    root = write_archive(tmp_path / "aerial", {"0.tar": images(0, 40), "1.tar": images(100, 40)})
    scene = make_scene(
        tmp_path,
        str(root),
        FAKES,
        str(tmp_path / "whole"),
        whole_rows=True,
        undisturbed=local_ray_address(),
    )
    rng, tally = random.Random(0), Tally()
    kill_once(scene, str(tmp_path / "killed"), "driver, staged", rng, tally)
    assert (tally.violations, tally.num_again) == ([], 0)
    assert tally.num_adopted > 0
