from __future__ import annotations

import datetime as dt
import random
from pathlib import Path

import pytest

from skytext.table.versions.canary import Canary, Compared, Searches, all_searches, save_searches
from skytext.table.versions.promote_rollback import promote, start_canary
from tests.table.rows import good_row, location, make_table


def counted(*seconds: float, num_failed: int = 0) -> Searches:
    found = Searches()
    for i, one in enumerate(seconds):
        found.add(one, failed=i < num_failed)
    return found


def test_a_quantile_is_at_most_a_tenth_too_large() -> None:
    rng = random.Random(0)
    seconds = sorted(rng.lognormvariate(-3, 1) for _ in range(2000))
    found = counted(*seconds)
    for share in (0.5, 0.95, 1.0):
        exact = seconds[round(share * 2000) - 1]
        assert exact <= found.quantile_s(share) <= 1.1 * exact
    assert Searches().quantile_s(0.95) == 0


def test_only_searches_that_certainly_took_longer_count_as_slower() -> None:
    found = counted(0.0, 0.1, 0.2, 0.4)
    assert [found.num_slower(s) for s in (0.05, 0.1, 0.15, 0.3, 0.4, 1.0)] == [3, 2, 2, 1, 0, 0]


def test_the_counts_of_all_processes_are_added_up(tmp_path: Path) -> None:
    rows = ([good_row(name)] for name in ("a.jpg", "b.jpg"))
    table = make_table(location(tmp_path / "table"), *rows)
    where = table.location
    number = 3
    one = Compared(counted(0.1, 0.1, num_failed=1), counted(0.3))
    save_searches(where, number, "one", Compared.empty().to_json())
    for holder in ("one", "two"):
        save_searches(where, number, holder, one.to_json())
    save_searches(where, 4, "one", one.to_json())
    found = all_searches(where, number)
    assert (found.live.num, found.live.num_failed, found.canary.num) == (4, 2, 2)
    assert found.canary.quantile_s(1) == pytest.approx(0.3, rel=0.1)
    # A new canary starts with empty counts. The counts of ended canaries are deleted.
    promote(where, table.version - 1)
    begun = start_canary(where, table.version, 0.1, 30)
    assert all_searches(where, begun.number) == Compared.empty()
    assert all_searches(where, number) == Compared.empty()


def test_a_canary_is_overdue_some_time_after_its_end_time() -> None:
    now = dt.datetime.now(dt.UTC)
    ends = [now + dt.timedelta(minutes=minutes) for minutes in (1, -1, -6)]
    found = [Canary(1, 0.1, at) for at in ends]
    assert [one.is_over for one in found] == [False, True, True]
    assert [one.is_overdue for one in found] == [False, False, True]
