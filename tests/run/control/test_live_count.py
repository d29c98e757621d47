"""Test the record of started engines and of described images."""

from __future__ import annotations

import asyncio

import pytest

from skytext.run.control.live_count import LiveCount


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_a_starting_engine_is_recorded_before_its_first_image() -> None:
    count, other = LiveCount("one run"), LiveCount("another run")
    assert not count.has_begun()
    asyncio.run(count.begin())
    assert (count.has_begun(), count.read(), other.has_begun()) == (True, 0, False)
    count.delete()
    assert not count.has_begun()
