from __future__ import annotations

import random

import pytest

from skytext.config.service import CanaryConfig
from skytext.service.judge_canary import is_comparable, problem_of
from skytext.table.versions.canary import Compared, Searches

LIMITS = CanaryConfig()


def searches(num: int, num_failed: int = 0, *, seconds: float = 0.1) -> Searches:
    """Return searches with a given duration. One search in 25 takes three times as long."""
    found = Searches()
    for i in range(num):
        found.add(seconds * (3 if i % 25 == 0 else 1), failed=i < num_failed)
    return found


def test_a_canary_like_the_live_version_is_not_worse() -> None:
    assert problem_of(Compared(searches(1000), searches(60)), LIMITS) is None
    assert problem_of(Compared(searches(1000, 50), searches(100, 5)), LIMITS) is None


def test_too_few_searches_say_nothing() -> None:
    few = Compared(searches(1000), searches(49, 49, seconds=9))
    assert problem_of(few, LIMITS) is None
    assert not is_comparable(few, LIMITS)
    assert problem_of(Compared(searches(49), searches(1000, 1000)), LIMITS) is None


@pytest.mark.parametrize(("num_failed", "is_worse"), [(0, False), (2, False), (3, True)])
def test_a_canary_that_fails_searches_is_worse(num_failed: int, is_worse: bool) -> None:
    problem = problem_of(Compared(searches(950), searches(50, num_failed)), LIMITS)
    assert (problem is not None) == is_worse
    if problem is not None:
        assert problem == (
            "3 of 50 searches failed; live version: 950 searches, 0 failed, 95 % within 0.1 s"
        )


def test_a_canary_that_is_slower_by_more_than_the_factor_is_worse() -> None:
    live = searches(950)
    assert problem_of(Compared(live, searches(50, seconds=0.15)), LIMITS) is None
    problem = problem_of(Compared(live, searches(50, seconds=0.3)), LIMITS)
    assert problem is not None
    assert problem.startswith("50 of 50 searches took more than 0.2 s; live version: 950 searches")
    generous = CanaryConfig(max_slowdown=4)
    assert problem_of(Compared(live, searches(50, seconds=0.3)), generous) is None


def stopped_after(rng: random.Random, slowdown: float, num_failing: float) -> int | None:
    """Compare the versions after each of 300 searches of a canary. Return the number of searches
    after which the canary is stopped, or None."""
    found = Compared.empty()
    for i in range(300):
        for _ in range(3):
            found.live.add(rng.lognormvariate(-3, 0.7), failed=rng.random() < 0.01)
        seconds = rng.lognormvariate(-3, 0.7) * slowdown
        found.canary.add(seconds, failed=rng.random() < num_failing)
        if problem_of(found, LIMITS) is not None:
            return i + 1
    return None


def test_chance_does_not_stop_a_canary_and_trouble_does() -> None:
    """The durations of the searches vary as in a real service. One search in a hundred fails."""
    rng = random.Random(1)
    assert [stopped_after(rng, 1, 0.01) for _ in range(10)] == [None] * 10
    for slowdown, num_failing in ((4, 0.01), (1, 0.2)):
        found = [stopped_after(rng, slowdown, num_failing) for _ in range(10)]
        assert all(number is not None and number <= 150 for number in found), found
