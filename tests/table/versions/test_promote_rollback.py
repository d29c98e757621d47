from __future__ import annotations

import itertools
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from skytext.errors import TableError
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.versions.promote_rollback import (
    MAX_KEPT,
    Promotion,
    end_canary,
    promote,
    promotions,
    recent_versions,
    rollback,
    set_tags,
    start_canary,
)
from tests.table.rows import good_row, location, make_table


@pytest.fixture
def where(tmp_path: Path) -> TableLocation:
    """Make a table with at least four versions."""
    return make_table(
        location(tmp_path / "table"), *([good_row(f"{i}.jpg")] for i in range(4))
    ).location


def live(where: TableLocation) -> int | None:
    return ImagesTable.open(where).live_version()


def versions(where: TableLocation) -> list[int]:
    latest = ImagesTable.open(where).version
    return [latest - 2, latest - 1, latest]


def test_readers_open_the_promoted_version(where: TableLocation) -> None:
    first, second, _ = versions(where)
    assert live(where) is None
    assert promote(where, first).version == first
    assert ImagesTable.open_served(where).version == first
    done = promote(where, second)
    assert (done.version, done.previous_version) == (second, first)
    assert live(where) == second


def test_the_history_says_who_did_what_and_why(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "ana")
    first, second, _ = versions(where)
    for version in (first, second):
        promote(where, version, why="the new sensor")
    rollback(where, why="too few ships")
    last, before, *_ = promotions(where)
    assert (last.action, last.why, before.why) == ("rollback", "too few ships", "the new sensor")
    assert last.by == f"ana@{socket.gethostname()}"
    assert f"rollback to version {first} by ana@" in last.described
    assert last.described.endswith(": too few ships")
    assert Promotion.from_row(last.to_json()) == last
    # Old records without a reason can be read.
    old = {name: value for name, value in last.to_json().items() if name != "why"}
    assert Promotion.from_row(old).why == ""


def test_without_a_version_the_latest_is_promoted(where: TableLocation) -> None:
    assert promote(where).version == ImagesTable.open(where).version == live(where)


def test_a_roll_back_can_be_repeated(where: TableLocation) -> None:
    for version in versions(where):
        promote(where, version)
    first, second, _ = versions(where)
    assert rollback(where).version == second == live(where)
    assert rollback(where).version == first == live(where)
    with pytest.raises(TableError, match=f"version {first} is live and no earlier version is kept"):
        rollback(where)
    assert live(where) == first


def test_a_promotion_after_a_roll_back_continues_from_the_live_version(
    where: TableLocation,
) -> None:
    first, second, third = versions(where)
    promote(where, first)
    promote(where, second)
    rollback(where)
    assert promote(where, third).previous_version == first


def test_there_is_nothing_to_go_back_to_before_the_first_promotion(where: TableLocation) -> None:
    with pytest.raises(TableError, match="nothing is live"):
        rollback(where)


def test_promoting_what_is_live_changes_nothing(where: TableLocation) -> None:
    first, second, _ = versions(where)
    promote(where, first)
    promote(where, second)
    assert promote(where, second) == promotions(where)[0]
    assert len(promotions(where)) == 2


def test_a_version_that_is_not_there_is_refused(where: TableLocation) -> None:
    promote(where)
    now = live(where)
    with pytest.raises(TableError, match="no version 999"):
        promote(where, 999)
    assert live(where) == now


def test_a_tag_without_a_log_is_gone_back_to(where: TableLocation) -> None:
    """Other software has set the tag of this table."""
    first, second, _ = versions(where)
    ImagesTable.open(where).set_tag("live", first)
    assert promote(where, second).previous_version == first
    assert rollback(where).version == first == live(where)


def test_the_versions_to_go_back_to_are_kept_from_clean_up(where: TableLocation) -> None:
    first, second, third = versions(where)
    for version in (first, second, third):
        promote(where, version)
    assert ImagesTable.open(where).tags() == {
        f"kept-{first}": first,
        f"kept-{second}": second,
        "live": third,
    }
    rollback(where)
    assert ImagesTable.open(where).tags() == {f"kept-{first}": first, "live": second}


def test_only_so_many_versions_are_kept(where: TableLocation) -> None:
    first, second, _ = versions(where)
    for _ in range(MAX_KEPT):
        promote(where, first)
        promote(where, second)
    assert len(promotions(where, 1)[0].versions) == MAX_KEPT


def test_the_versions_that_were_live_last_are_known(where: TableLocation) -> None:
    first, second, third = versions(where)
    for version in (first, second, third):
        promote(where, version)
    rollback(where)
    assert recent_versions(where, 10) == [second, third, first]
    assert recent_versions(where, 2) == [second, third]


def test_a_tag_that_lags_behind_the_log_is_set_by_the_next_promotion(where: TableLocation) -> None:
    """The process that wrote the log may have been killed before it set the tag."""
    first, second, _ = versions(where)
    promote(where, first)
    promote(where, second)
    ImagesTable.open(where).set_tag("live", first)
    promote(where, second)
    assert live(where) == second


def test_promotions_at_the_same_time_all_count_and_the_last_one_is_live(
    where: TableLocation,
) -> None:
    first, second, third = versions(where)
    promote(where, third)

    def work(version: int) -> None:
        for _ in range(5):
            promote(where, version)
            promote(where, third)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, (first, second, first, second)))
    log = promotions(where, 1000)
    assert [record.number for record in log] == list(range(len(log), 0, -1))
    assert live(where) == log[0].version
    for later, earlier in itertools.pairwise(log):
        assert later.versions == (*earlier.versions, later.version)[-MAX_KEPT:]


def test_old_records_are_dropped(where: TableLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skytext.table.versions.promote_rollback._KEPT_RECORDS", 4)
    first, second, _ = versions(where)
    for _ in range(6):
        promote(where, first)
        promote(where, second)
    numbers = [record.number for record in promotions(where, 100)]
    assert numbers == [12, 11, 10, 9, 8]
    assert rollback(where).version == first == live(where)


def began(where: TableLocation) -> tuple[int, int, Promotion]:
    """Start a canary of the third version while the second version is live."""
    first, second, third = versions(where)
    promote(where, first)
    promote(where, second)
    return second, third, start_canary(where, None, 0.05, 30, why="a new prompt")


def test_a_canary_leaves_the_live_version_and_is_kept_from_clean_up(where: TableLocation) -> None:
    second, third, begun = began(where)
    assert (begun.action, begun.version, begun.previous_version) == ("canary", second, second - 1)
    assert begun.canary is not None
    assert begun.canary.version == third == ImagesTable.open(where).canary_version()
    assert live(where) == second
    assert recent_versions(where, 2) == [second, third]
    assert f"canary: version {third} answers 0.05 of the searches until" in begun.described
    assert Promotion.from_row(begun.to_json()) == begun
    old = {name: value for name, value in begun.to_json().items() if name != "canary"}
    assert Promotion.from_row(old).canary is None


def test_a_canary_that_passes_becomes_live(where: TableLocation) -> None:
    second, third, begun = began(where)
    assert end_canary(where, begun.number, passed=True, why="canary passed")
    last = promotions(where, 1)[0]
    assert (last.action, last.version, last.previous_version) == ("promote", third, second)
    assert live(where) == third
    assert ImagesTable.open(where).canary_version() is None


def test_a_canary_that_is_stopped_leaves_the_live_version_and_the_reason(
    where: TableLocation,
) -> None:
    second, third, begun = began(where)
    assert end_canary(where, begun.number, passed=False, why="9 of 90 searches failed")
    last = promotions(where, 1)[0]
    assert (last.action, last.why) == ("stop", f"version {third}: 9 of 90 searches failed")
    assert last.versions == begun.versions
    assert f"canary stopped (version {second} stays live) by" in last.described
    assert live(where) == second
    assert ImagesTable.open(where).canary_version() is None


def test_of_several_that_end_a_canary_exactly_one_does(where: TableLocation) -> None:
    *_, begun = began(where)
    with ThreadPoolExecutor(4) as pool:
        did = pool.map(
            lambda i: end_canary(where, begun.number, passed=i % 2 == 0, why=str(i)), range(8)
        )
    assert sum(did) == 1
    assert promotions(where, 1)[0].number == begun.number + 1


def test_a_canary_that_another_process_ended_is_not_ended_again(where: TableLocation) -> None:
    second, _, begun = began(where)
    assert rollback(where).versions == begun.versions
    assert not end_canary(where, begun.number, passed=True, why="too late")
    assert live(where) == second
    assert ImagesTable.open(where).canary_version() is None


def test_a_promotion_ends_a_canary(where: TableLocation) -> None:
    second, third, begun = began(where)
    # A promotion of the live version only ends the canary.
    assert promote(where, second).versions == begun.versions
    assert promotions(where, 1)[0].canary is None
    start_canary(where, third, 0.5, 30)
    assert promote(where, third).previous_version == second
    assert live(where) == third
    assert ImagesTable.open(where).canary_version() is None


def test_a_canary_needs_another_version_that_is_live(where: TableLocation) -> None:
    _, second, third = versions(where)
    with pytest.raises(TableError, match=f"no version is live, .*promote .* {third}$"):
        start_canary(where, None, 0.05, 30)
    promote(where, second)
    with pytest.raises(TableError, match=f"version {second} is live already"):
        start_canary(where, second, 0.05, 30)
    with pytest.raises(TableError, match="no version 999"):
        start_canary(where, 999, 0.05, 30)


def test_tags_that_a_killed_process_did_not_set_are_set_by_others(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    second, third, begun = began(where)
    with monkeypatch.context() as killed:
        killed.setattr("skytext.table.versions.promote_rollback.set_tags", lambda _: None)
        end_canary(where, begun.number, passed=True, why="canary passed")
    assert live(where) == second
    set_tags(where)
    assert live(where) == third
