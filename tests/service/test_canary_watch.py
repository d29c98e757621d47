from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from skytext.errors import CallError
from skytext.search import Searcher
from skytext.search.request import SearchRequest
from skytext.service import canary_watch
from skytext.service.canary_watch import CanaryWatch
from skytext.service.problem_details import ProblemError, model_not_loaded
from skytext.service.served_tables import TableSet, VersionOfEach
from skytext.service.telemetry.metrics import LocalMeter
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.versions.canary import Canary, all_searches
from skytext.table.versions.promote_rollback import promote, promotions, rollback, start_canary
from tests.service.app import client, make_config
from tests.service.tables import embed_again

TEXTS = [f"a river {i}" for i in range(40)]


def watching(where: TableLocation, **settings: Any) -> CanaryWatch:
    config = make_config(where.uri, **settings).service
    return CanaryWatch(TableSet.parse([where.uri]), config, LocalMeter())


async def answers(version: VersionOfEach) -> None:
    """Accept any version."""


async def fails(version: VersionOfEach) -> None:
    """Fail for any version."""
    raise ProblemError(503, "table-unreadable", f"version {version[0]} is broken")


def step(watch: CanaryWatch, try_out: Any = answers) -> None:
    asyncio.run(watch.step(try_out))


def begin(where: TableLocation, share: float = 0.5, minutes: float = 30) -> tuple[int, int, int]:
    """Make the last version a canary, and make the previous version live. Return the live version,
    the canary and the number of the record."""
    last = ImagesTable.open(where).version
    promote(where, last - 1)
    return last - 1, last, start_canary(where, last, share, minutes).number


def value(meter: LocalMeter, series: str) -> float:
    return sum(
        float(line.rpartition(" ")[2])
        for line in meter.text().splitlines()
        if line.startswith(series)
    )


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


@contextmanager
def serving(where: TableLocation, **settings: Any) -> Iterator[Any]:
    """Run a service whose replicas have opened the canary."""
    more = {"poll_interval_s": 0.2, "access__key_rate": None, **settings}
    with client(where.uri, **more) as http:
        http.application.embedding.models.load_canary()
        http.application.searches._open_canary()
        until(lambda: http.application.backend._canary._ready is not None)
        yield http


def versions_of(http: Any) -> dict[str, int]:
    found = {}
    for text in TEXTS:
        answer = http.post("/v1/search", json={"text": text, "k": 1})
        assert answer.status_code == 200, answer.text
        found[text] = answer.json()["table_version"]
    return found


def broken(monkeypatch: pytest.MonkeyPatch, version: int, do: Callable[[], None]) -> None:
    """Call ``do`` in each search of this version."""
    search = Searcher.search

    def worse(self: Searcher, *asked: Any, **more: Any) -> Any:
        if self.table.version == version:
            do()
        return search(self, *asked, **more)

    monkeypatch.setattr(Searcher, "search", worse)


def test_a_canary_answers_a_share_and_the_same_search_the_same_way(own: TableLocation) -> None:
    live, canary, number = begin(own, 0.3)
    with serving(own) as http:
        found = versions_of(http)
        assert set(found.values()) == {live, canary}
        assert 3 <= list(found.values()).count(canary) <= 25
        assert versions_of(http) == found
        # A search that names a version uses that version, and the search is not counted.
        for version in (live, canary):
            named = http.post("/v1/search", json={"text": TEXTS[0], "version": version})
            assert named.json()["table_version"] == version
        answer = http.get("/v1/table").json()
        assert (answer["table_version"], answer["canary_version"]) == (live, canary)
        assert http.get("/readyz").json()["table_version"] == live
        until(lambda: sum(n.num for n in all_searches(own, number)) == 2 * len(TEXTS))
        counted, meter = all_searches(own, number), http.application.meter
        assert counted.canary.num == 2 * list(found.values()).count(canary)
        assert value(meter, 'skytext_searches_total{ok="true",version="canary"}') == (
            counted.canary.num
        )
        assert value(meter, 'skytext_search_seconds_count{version="live"}') == counted.live.num
        assert value(meter, "skytext_canary_running ") == 1
    # Another process makes the same decisions. Another canary gets other searches.
    watch = watching(own)
    step(watch)
    requests = {text: [SearchRequest(text=text)] for text in TEXTS}
    same = {text: (watch.version_for(one) or (live,))[0] for text, one in requests.items()}
    assert same == found
    begin(own, 0.3)
    step(watch)
    assert {text: (watch.version_for(one) or (live,))[0] for text, one in requests.items()} != found


def test_a_canary_without_failures_becomes_live_at_its_end(own: TableLocation) -> None:
    live, canary, _ = begin(own, 0.5, 4 / 60)
    with serving(own) as http:
        versions_of(http)
        until(lambda: ImagesTable.open(own).live_version() == canary)
        assert http.application.searches.versions.refresh()
        http.application.embedding.models.refresh()
        assert set(versions_of(http).values()) == {canary}
    last = promotions(own, 1)[0]
    assert (last.action, last.previous_version) == ("promote", live)
    assert last.why.startswith("canary passed: ")
    assert (
        "not compared, because a comparison needs at least 50 searches in each version" in last.why
    )


def test_a_canary_that_fails_searches_is_stopped_and_no_caller_notices(
    own: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, canary, _ = begin(own)

    def fail() -> None:
        raise RuntimeError("broken")

    with serving(own, canary__min_requests=10) as http:
        broken(monkeypatch, canary, fail)
        assert set(versions_of(http).values()) == {live}
        until(lambda: promotions(own, 1)[0].action == "stop")
        until(lambda: value(http.application.meter, "skytext_canary_stopped ") == 1)
        assert value(http.application.meter, "skytext_canary_running ") == 0
    last = promotions(own, 1)[0]
    assert last.version == live
    assert last.why.startswith(f"version {canary}: ")
    assert " searches failed; live version: " in last.why


def test_a_canary_that_is_slow_is_stopped(
    own: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, canary, _ = begin(own)
    # A search of the canary takes much longer than a search of the live version on a busy machine.
    with serving(own, canary__min_requests=8) as http:
        broken(monkeypatch, canary, lambda: time.sleep(0.5))
        versions_of(http)
        until(lambda: promotions(own, 1)[0].action == "stop")
    assert " searches took more than " in promotions(own, 1)[0].why
    assert ImagesTable.open(own).live_version() == live


def test_a_canary_of_another_model_is_searched_with_that_model(own: TableLocation) -> None:
    promote(own)
    embed_again(own, "fake:dim=24")
    live, canary, _ = begin(own)
    with serving(own) as http:
        assert http.application.embedding.models.live.versions == (live,)
        found = versions_of(http)
        assert set(found.values()) == {live, canary}
        answers = http.post(
            "/v1/search/batch", json={"searches": [{"text": text} for text in TEXTS[:9]]}
        )
        assert len({one["table_version"] for one in answers.json()["answers"]}) == 1


def test_a_cursor_stays_with_the_canary_that_it_began_with(own: TableLocation) -> None:
    live, canary, _ = begin(own)
    with serving(own) as http:
        text = next(text for text, version in versions_of(http).items() if version == canary)
        first = http.post("/v1/search", json={"text": text, "k": 1}).json()
        asked = {"text": text, "k": 1, "cursor": first["next_cursor"]}
        assert http.post("/v1/search", json=asked).json()["table_version"] == canary
        rollback(own)
        until(lambda: http.application.backend._canary._ready is None)
        assert http.post("/v1/search", json={"text": text}).json()["table_version"] == live
        assert http.post("/v1/search", json=asked).json()["table_version"] == canary
        assert http.application.searches.versions.open_canary() is None
    # A replica that never opened the canary also answers from the version of the canary.
    with client(own.uri) as http:
        assert http.post("/v1/search", json=asked).json()["table_version"] == canary


def test_until_a_replica_has_opened_the_canary_the_live_version_answers(
    own: TableLocation,
) -> None:
    live, _, number = begin(own)
    with serving(own) as http:
        http.application.searches.versions._held.popitem(last=False)
        assert set(versions_of(http).values()) == {live}
        until(lambda: all_searches(own, number).live.num == len(TEXTS))
        assert all_searches(own, number).canary.num == 0


def test_a_version_that_does_not_answer_gets_no_search_and_is_stopped_after_its_time(
    own: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, canary, _ = begin(own, 0.5, 0.001)
    watch = watching(own)
    time.sleep(0.1)
    step(watch, fails)
    assert watch.version_for([SearchRequest(text="a")]) is None
    assert promotions(own, 1)[0].action == "canary"
    monkeypatch.setattr(canary_watch, "_PATIENCE", canary_watch.dt.timedelta())
    step(watch, fails)
    last = promotions(own, 1)[0]
    assert (last.action, last.version) == ("stop", live)
    assert last.why == (
        f"version {canary}: a test search failed: 503 table-unreadable: version {canary} is broken"
    )


def test_processes_judge_what_all_have_counted_also_ended_ones(own: TableLocation) -> None:
    live, _, number = begin(own)
    watches = [watching(own) for _ in range(3)]
    for watch in watches:
        step(watch)
        for _ in range(20):
            for which in ("live", "canary"):
                with pytest.raises(RuntimeError), watch.counting(which):  # type: ignore[arg-type]
                    raise RuntimeError
    # No single process has enough searches for a decision. The first process ends now. Both
    # versions fail equally often, so the canary continues.
    step(watches.pop(0))
    for watch in watches:
        step(watch)
    counted = all_searches(own, number)
    assert (counted.live.num, counted.canary.num_failed) == (60, 60)
    assert promotions(own, 1)[0].number == number
    for _ in range(400):
        with watches[0].counting("live"):
            pass

    async def at_once() -> None:
        await asyncio.gather(*(watch.step(answers) for watch in watches))

    asyncio.run(at_once())
    asyncio.run(at_once())
    last, before = promotions(own, 2)
    assert (last.action, last.number, before.number) == ("stop", number + 1, number)
    assert last.why.count("60 of 60 searches failed; live version: 460 searches, 60 failed") == 1
    assert ImagesTable.open(own).live_version() == live


@pytest.mark.parametrize(
    ("error", "counted"),
    [
        (CallError("no such field"), (1, 0)),
        (ProblemError(410, "version-gone", "gone"), (1, 0)),
        (ProblemError(503, "overloaded", "busy"), (1, 1)),
        (asyncio.CancelledError(), (1, 0)),
        (model_not_loaded(), (0, 0)),
    ],
)
def test_only_what_the_caller_cannot_help_is_a_failure(
    own: TableLocation, error: BaseException, counted: tuple[int, int]
) -> None:
    begin(own)
    watch = watching(own)
    step(watch)
    with pytest.raises(type(error)), watch.counting("canary"):
        raise error
    found = watch._counted.canary
    assert (found.num, found.num_failed) == counted


def test_tags_that_a_killed_process_did_not_set_are_set(
    own: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, canary, _ = begin(own)
    watch, other = watching(own), watching(own)
    step(other)
    with monkeypatch.context() as killed:
        killed.setattr("skytext.table.versions.promote_rollback.set_tags", lambda _: None)
        killed.setattr(Canary, "is_over", property(lambda _: True))
        step(watch)
    assert ImagesTable.open(own).live_version() == live
    step(other)
    assert ImagesTable.open(own).live_version() == canary


def test_a_service_of_a_pinned_version_follows_no_canary(own: TableLocation) -> None:
    live, _, _ = begin(own, 0.5, 0.001)
    with client(own.uri, version=live, poll_interval_s=0.05) as http:
        assert set(versions_of(http).values()) == {live}
        assert http.application.searches.versions.open_canary() is None
    assert promotions(own, 1)[0].action == "canary"


def test_a_service_of_several_tables_follows_no_canary(two: list[Path]) -> None:
    first, second = two
    live, _, _ = begin(TableLocation.parse(str(first)), 0.5, 0.001)
    with client(first, more=[second], poll_interval_s=0.05) as http:
        found = http.post("/v1/search", json={"text": "a river", "k": 1}).json()
        assert next(iter(found["table_versions"].values())) == live
        assert http.application.searches.versions.open_canary() is None
        assert http.application.backend._canary.version_for([SearchRequest(text="a")]) is None
    assert promotions(TableLocation.parse(str(first)), 1)[0].action == "canary"
