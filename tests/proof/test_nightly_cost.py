"""Test that the work of a night depends on the changes, not on the size of the archive."""

from __future__ import annotations

import os

import pytest

from bench.nightly import measure

NUM_IMAGES = int(os.environ.get("SKYTEXT_NUM_IMAGES", "200000"))


@pytest.mark.proof
@pytest.mark.ray
@pytest.mark.timeout(3600, method="thread")
@pytest.mark.usefixtures("local_ray")
def test_the_work_of_a_night_depends_on_the_changes() -> None:
    found = measure(NUM_IMAGES, images_per_shard=max(10, NUM_IMAGES // 200), num_calls=1)
    nights = found["nights"]
    assert nights["full"]["images_described"] == NUM_IMAGES
    assert nights["1 % new"]["share_of_stage_work"] <= 0.02
    assert nights["1 % new"]["share_of_bytes_read"] <= 0.02
    assert nights["0.01 % changed"]["share_of_stage_work"] <= 0.001
    # One of two hundred shards was read.
    assert nights["0.01 % changed"]["share_of_bytes_read"] <= 0.006
    assert found["nothing_new_s"][0] <= 20
