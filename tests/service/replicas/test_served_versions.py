from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytext.errors import CallError, TableError
from skytext.models import factory
from skytext.search import Searcher
from skytext.search.request import SearchRequest
from skytext.service.problem_details import ProblemError
from skytext.service.replicas.refusals import Refusal
from skytext.service.replicas.search_worker import SearchWorker
from skytext.service.replicas.served_versions import Follower, OtherModelError, Versions
from skytext.service.search_query import Embedded, Query
from skytext.service.served_tables import TableSet, VersionOfEach
from skytext.service.telemetry.metrics import LocalMeter
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.versions.held_versions import held_versions
from skytext.table.versions.promote_rollback import promote, rollback
from tests.service.app import client, make_config
from tests.service.tables import embed_again


def worker(where: TableLocation, **settings: Any) -> SearchWorker:
    config = make_config(where.uri, **settings)
    return SearchWorker(TableSet.parse([where.uri]), config, LocalMeter())


def live(versions: Versions) -> int:
    return versions.live.table.version


def first_and_last(where: TableLocation) -> tuple[int, int]:
    last = ImagesTable.open(where).version
    return last - 1, last


def test_a_promotion_and_a_roll_back_are_followed(own: TableLocation) -> None:
    first, last = first_and_last(own)
    promote(own, first)
    versions = worker(own).versions
    assert live(versions) == first
    assert not versions.refresh()
    promote(own, last)
    assert versions.refresh()
    assert live(versions) == last
    rollback(own)
    assert versions.refresh()
    assert live(versions) == first


def test_without_a_promotion_the_latest_is_served_and_stays(own: TableLocation) -> None:
    first, last = first_and_last(own)
    versions = worker(own).versions
    assert live(versions) == last
    assert not versions.refresh()
    promote(own, first)
    assert versions.refresh()
    assert live(versions) == first


def test_a_pinned_version_stays_after_a_promotion(own: TableLocation) -> None:
    first, last = first_and_last(own)
    promote(own, last)
    versions = worker(own, version=first).versions
    promote(own, last)
    assert not versions.refresh()
    assert live(versions) == first


def test_the_old_version_answers_until_the_new_one_is_warm(own: TableLocation) -> None:
    first, last = first_and_last(own)
    promote(own, first)
    made = worker(own)
    opening, go_on = threading.Event(), threading.Event()
    make = made.versions._make_searcher

    def slowly(*given: Any) -> Searcher:
        opening.set()
        assert go_on.wait(30)
        return make(*given)

    made.versions._make_searcher = slowly
    promote(own, last)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(made.versions.refresh)
        assert opening.wait(30)
        assert live(made.versions) == first
        go_on.set()
        assert done.result(30)
    assert live(made.versions) == last


def test_versions_that_were_live_are_held_and_others_are_gone(own: TableLocation) -> None:
    first, last = first_and_last(own)
    promote(own, first)
    promote(own, last)
    versions = worker(own).versions
    # A cursor of another replica can contain a version that this replica never served.
    assert versions.at((first,)).table.version == first
    assert versions.at((last,)) is versions.live
    for made_up in (0, 99, -1, 2**63):
        with pytest.raises(ProblemError) as caught:
            versions.at((made_up,))
        assert caught.value.status == 410


def test_only_so_many_versions_are_held(own: TableLocation) -> None:
    first, last = first_and_last(own)
    promote(own, first)
    promote(own, last)
    versions = worker(own, held_versions=1).versions
    with pytest.raises(ProblemError, match="no longer held"):
        versions.at((first,))


def test_a_store_that_fails_once_does_not_lose_a_promotion(own: TableLocation) -> None:
    first, last = first_and_last(own)
    promote(own, first)
    made = worker(own)
    make, failures = made.versions._make_searcher, [TableError("no answer"), OSError("reset")]

    def hiccup(*given: Any) -> Searcher:
        if failures:
            raise failures.pop(0)
        return make(*given)

    made.versions._make_searcher = hiccup
    promote(own, last)
    assert [made.versions.refresh() for _ in range(3)] == [False, False, True]
    assert live(made.versions) == last


def test_a_version_that_was_never_live_is_refused_at_once(
    own: TableLocation,
) -> None:
    first, last = first_and_last(own)
    promote(own, first)
    made = worker(own, search_threads=1)
    dim = made.versions.live.table.text_column.dim
    opening, go_on = threading.Event(), threading.Event()
    make = made.versions._make_searcher

    def slowly(*given: Any) -> Searcher:
        opening.set()
        assert go_on.wait(30)
        return make(*given)

    made.versions._make_searcher = slowly
    promote(own, last)

    def query(version: VersionOfEach | None) -> Query:
        vector = np.full(dim, dim**-0.5, np.float32)
        embedded = Embedded(made.versions.live.table.text_column.fingerprint, vector)
        return Query(SearchRequest(text="a"), {"a": embedded}, {}, version)

    async def search() -> None:
        async with asyncio.timeout(20):
            refused = await made.search([query((last + 7,))])
            assert isinstance(refused, Refusal)
            assert str(refused.error).startswith("410 version-gone")
            # The search waits until the version can be opened, and delays no other search.
            waiting = asyncio.ensure_future(made.search([query((last,))]))
            await asyncio.sleep(0)
            assert isinstance(await made.search([query(None)]), list)
            assert not waiting.done()
            go_on.set()
            assert isinstance(await waiting, list)

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(made.versions.refresh)
        try:
            assert opening.wait(30)
            asyncio.run(search())
        finally:
            go_on.set()
        assert done.result(30)


def test_a_version_of_another_model_is_looked_at_once(own: TableLocation) -> None:
    first, last = first_and_last(own)
    promote(own, first)
    made = worker(own)
    tried = []

    def refuse(tables: list[ImagesTable], known: Any) -> Searcher:
        tried.extend(table.version for table in tables)
        raise OtherModelError("of another model")

    make, made.versions._make_searcher = made.versions._make_searcher, refuse
    promote(own, last)
    assert [made.versions.refresh() for _ in range(3)] == [False] * 3
    assert tried == [last]
    made.versions._make_searcher = make


def test_a_version_that_cannot_be_served_leaves_the_old_one(
    own: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = first_and_last(own)
    promote(own, first)
    made = worker(own)
    there = ImagesTable.open(own, first).text_column
    promote(own, last)
    # Now the configured model differs from the model that embedded the new version.
    monkeypatch.setattr(made, "_column", replace(there, fingerprint="0" * 32))
    monkeypatch.setattr(factory, "embedding_fingerprint", lambda _: "1" * 32)
    assert not made.versions.refresh()
    assert live(made.versions) == first
    assert 'skytext_swaps_total{ok="false"} 1.0' in made._meter.text()  # type: ignore[attr-defined]


def test_a_follower_follows_until_it_is_stopped(own: TableLocation) -> None:
    first, last = first_and_last(own)
    promote(own, first)
    versions = worker(own).versions
    followed = threading.Event()
    refresh = versions.refresh

    def watched() -> bool:
        changed = refresh()
        if changed:
            followed.set()
        return changed

    versions.refresh = watched  # type: ignore[method-assign]
    follower = Follower({"cannot ask": versions.refresh}, 0.01)
    follower.start()
    promote(own, last)
    assert followed.wait(30)
    follower.stop()
    follower.join(30)
    assert live(versions) == last


@pytest.mark.parametrize(
    "num_changes", [10, pytest.param(500, marks=pytest.mark.proof, id="500 there and back")]
)
def test_no_answer_fails_or_mixes_versions_while_versions_change(
    own: TableLocation, num_changes: int
) -> None:
    """Promote and roll back while searches run."""
    first, last = first_and_last(own)
    promote(own, first)
    counts = {first: 2, last: 4}
    seen: set[int] = set()
    with client(own.uri, access__key_rate=None) as http, ThreadPoolExecutor(2) as pool:
        done = threading.Event()

        def change() -> None:
            try:
                for _ in range(num_changes):
                    promote(own, last)
                    http.application.searches.versions.refresh()
                    rollback(own)
                    http.application.searches.versions.refresh()
            finally:
                done.set()

        changing = pool.submit(change)
        while not done.is_set():
            two = {"searches": [{"text": "a river", "k": 9}, {"text": "ships", "k": 9}]}
            answer = http.post("/v1/search/batch", json=two)
            assert answer.status_code == 200, answer.text
            answers = answer.json()["answers"]
            (version,) = {a["table_version"] for a in answers}
            assert [len(a["hits"]) for a in answers] == [counts[version]] * 2
            seen.add(version)
        changing.result()
    assert seen == {first, last}


def scores(answer: Any) -> list[tuple[str, float]]:
    return [(hit["image_id"], round(hit["score"], 4)) for hit in answer["hits"]]


@pytest.mark.parametrize(
    "num_changes", [10, pytest.param(100, marks=pytest.mark.proof, id="100 there and back")]
)
def test_no_answer_fails_or_mixes_models_while_the_embedding_model_changes(
    own: TableLocation, num_changes: int
) -> None:
    """Promote and roll back while searches run. The versions have vectors of 16 and of 24
    numbers."""
    first = promote(own).version
    last = embed_again(own, "fake:dim=24").version
    bodies = [{"text": "a river", "k": 9}, {"text": "ships in a harbour", "k": 9}]
    expected = {}
    for version in (first, last):
        with client(own.uri, version=version) as http:
            answers = http.post("/v1/search/batch", json={"searches": bodies}).json()["answers"]
            expected[version] = [scores(answer) for answer in answers]
    assert expected[first] != expected[last]
    seen: set[int] = set()
    with client(own.uri, access__key_rate=None) as http, ThreadPoolExecutor(2) as pool:
        searches, models = http.application.searches, http.application.embedding.models
        done = threading.Event()

        def change() -> None:
            try:
                for number in range(num_changes):
                    for step in (lambda: promote(own, last), lambda: rollback(own)):
                        step()
                        # Use different orders of the two refreshes. The third choice delays the
                        # load of the models.
                        follow = [searches.versions.refresh, models.refresh]
                        for one in (follow, follow[::-1], follow[:1])[number % 3]:
                            one()
            finally:
                done.set()

        changing = pool.submit(change)
        while not done.is_set():
            response = http.post("/v1/search/batch", json={"searches": bodies})
            assert response.status_code == 200, response.text
            answers = response.json()["answers"]
            (version,) = {answer["table_version"] for answer in answers}
            assert [scores(answer) for answer in answers] == expected[version]
            seen.add(version)
        changing.result()
    assert seen == {first, last}


def test_a_model_is_released_when_no_version_that_is_kept_needs_it(own: TableLocation) -> None:
    first = promote(own).version
    with client(own.uri, held_versions=2) as http:
        models = http.application.embedding.models
        for dims in ({16, 24}, {24, 12}, {12, 8}):
            embed_again(own, f"fake:dim={min(dims) if 16 not in dims else 24}")
            promote(own)
            models.refresh()
            assert {one.text.dim for one in models._kept.values()} == dims
        # A text for an old version is embedded with the model of that version.
        found = asyncio.run(http.application.embedding.embed_one(("a river", (first,))))
        assert found.vector.size == 16


def test_a_missing_table_is_reported(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="there is no table"):
        worker(TableLocation.parse(str(tmp_path / "none")))


def test_a_cursor_continues_in_its_version_or_gets_410(own: TableLocation) -> None:
    first, last = first_and_last(own)
    promote(own, first)
    with client(own.uri, held_versions=2) as http:
        page = http.post("/v1/search", json={"text": "a river", "k": 1}).json()
        more = {"text": "a river", "k": 1, "cursor": page["next_cursor"]}
        promote(own, last)
        assert http.application.searches.versions.refresh()
        assert http.post("/v1/search", json={"text": "a"}).json()["table_version"] == last
        later = http.post("/v1/search", json=more)
        assert later.json()["table_version"] == first
        both = {"searches": [more, {"text": "a river"}]}
        answers = http.post("/v1/search/batch", json=both).json()["answers"]
        assert [answer["table_version"] for answer in answers] == [first, last]
    with client(own.uri, held_versions=1) as http:
        gone = http.post("/v1/search", json=more)
        assert gone.status_code == 410
        assert gone.json()["type"] == "urn:skytext:problem:version-gone"


def test_a_search_may_name_the_version_that_it_is_of(own: TableLocation) -> None:
    first, last = first_and_last(own)
    promote(own, first)
    promote(own, last)
    with client(own.uri) as http:
        asked = {"text": "a river", "k": 4}
        assert http.post("/v1/search", json=asked).json()["table_version"] == last
        before = http.post("/v1/search", json={**asked, "version": first}).json()
        assert before["table_version"] == first
        assert len(before["hits"]) == 2
        linked = http.get("/v1/search", params={**asked, "version": first}).json()
        assert linked == before
        gone = http.post("/v1/search", json={**asked, "version": last + 1})
        assert (gone.status_code, gone.json()["type"]) == (410, "urn:skytext:problem:version-gone")


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def copies(made: SearchWorker, ok: str) -> float:
    meter: Any = made._meter
    found = re.search(rf'skytext_row_copies_total{{ok="{ok}"}} (\S+)', meter.text())
    return float(found[1]) if found else 0.0


def test_rows_of_the_live_version_are_copied(own: TableLocation, tmp_path: Path) -> None:
    first, last = first_and_last(own)
    promote(own, first)
    made = worker(own, row_copy_dir=str(tmp_path / "copies"))
    wait_until(lambda: made.versions.live.rows_are_copied)
    promote(own, last)
    assert made.versions.refresh()
    wait_until(lambda: made.versions.live.rows_are_copied)
    assert live(made.versions) == last
    assert copies(made, "true") == 2
    # Both versions are held, so no rows must be copied.
    rollback(own)
    assert made.versions.refresh()
    assert made.versions.live.rows_are_copied
    assert not worker(own).versions.live.rows_are_copied


def test_a_failed_row_copy_is_counted_and_repeated_while_searches_run(
    own: TableLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skytext.service.replicas.row_copier._AGAIN_AFTER_S", 0.05)
    in_the_way = tmp_path / "copies"
    in_the_way.write_text("a file")
    made = worker(own, row_copy_dir=str(in_the_way))
    wait_until(lambda: copies(made, "false") >= 2)
    assert not made.versions.live.rows_are_copied
    in_the_way.unlink()
    wait_until(lambda: made.versions.live.rows_are_copied)
    assert copies(made, "true") == 1


def test_the_copy_thread_survives_unexpected_errors(
    own: TableLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skytext.service.replicas.row_copier._AGAIN_AFTER_S", 0.05)
    copy_rows = Searcher.copy_rows
    errors = [RuntimeError("not thought of")]

    def broken_once(searcher: Searcher, *args: Any) -> bool:
        if errors:
            raise errors.pop()
        return copy_rows(searcher, *args)

    monkeypatch.setattr(Searcher, "copy_rows", broken_once)
    made = worker(own, row_copy_dir=str(tmp_path / "copies"))
    wait_until(lambda: made.versions.live.rows_are_copied)
    assert copies(made, "false") == 1


def test_a_table_that_is_not_there_leaves_no_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with pytest.raises(TableError):
        worker(TableLocation(str(tmp_path / "nothing")), row_copy_dir=str(tmp_path / "copies"))
    assert "copy-rows" not in {thread.name for thread in set(threading.enumerate()) - before}


def several(two: list[Path], **settings: Any) -> SearchWorker:
    tables = TableSet.parse([str(table) for table in two])
    return SearchWorker(tables, make_config(two[0], **settings), LocalMeter())


def promoted(two: list[Path]) -> tuple[list[TableLocation], list[int]]:
    """Promote the first version of each table. Return the tables and their last versions."""
    where = [TableLocation.parse(str(table)) for table in two]
    for one in where:
        promote(one, first_and_last(one)[0])
    return where, [first_and_last(one)[1] for one in where]


def test_a_promotion_of_one_table_opens_nothing_of_the_others(two: list[Path]) -> None:
    (north, south), (last, other) = promoted(two)
    versions = several(two).versions
    before = versions.live
    assert before.versions == (last - 1, other - 1)
    promote(north, last)
    assert versions.refresh()
    assert versions.live.versions == (last, other - 1)
    assert versions.live.tables[1] is before.tables[1]
    assert versions.live._parts[1] is before._parts[1]
    assert versions.live._parts[0] is not before._parts[0]
    assert not versions.refresh()
    # A request may name one live version for each table, even if these versions were never live at
    # the same time.
    promote(south, other)
    assert versions.at((last - 1, other)).versions == (last - 1, other)
    with pytest.raises(CallError, match="one number for each of 2 tables"):
        versions.at((last,))


def test_the_versions_of_each_table_are_held_for_clean_ups(two: list[Path]) -> None:
    (north, south), (last, other) = promoted(two)
    versions = several(two).versions
    promote(south, other)
    assert versions.refresh()
    versions.record_held()
    assert held_versions(north) == {last - 1}
    assert held_versions(south) == {other - 1, other}


def test_a_table_that_cannot_be_followed_does_not_delay_others(two: list[Path]) -> None:
    (north, south), (last, other) = promoted(two)
    made = several(two)
    make = made.versions._make_searcher

    def broken(tables: list[ImagesTable], known: Any) -> Searcher:
        if tables[0].version == last:
            raise OSError("no answer")
        return make(tables, known)

    made.versions._make_searcher = broken
    promote(north, last)
    promote(south, other)
    assert made.versions.refresh()
    assert made.versions.live.versions == (last - 1, other)
    assert not made.versions.refresh()
    made.versions._make_searcher = make
    assert made.versions.refresh()
    assert made.versions.live.versions == (last, other)


def test_another_model_is_followed_once_all_tables_have_it(two: list[Path]) -> None:
    (north, south), (_, other) = promoted(two)
    asked = {"text": "a brown river", "k": 9}
    with client(two[0], more=two[1:], access__key_rate=None) as http:
        searches, models = http.application.searches, http.application.embedding.models

        def found() -> tuple[str, int]:
            answer = http.post("/v1/search", json=asked)
            assert answer.status_code == 200, answer.text
            return answer.json()["table_version"], len(answer.json()["hits"])

        before = found()
        changed = promote(north, embed_again(north, "fake:dim=24").version).version
        for _ in range(2):
            assert not searches.versions.refresh()
        with pytest.raises(TableError, match="Search each table alone"):
            models.refresh()
        assert found() == before
        # Promotions of the other table still take effect.
        promote(south, other)
        assert searches.versions.refresh()
        assert found() == (before[0].replace(f",{other - 1}", f",{other}"), 4)
        both = promote(south, embed_again(south, "fake:dim=24").version).version
        assert searches.versions.refresh()
        models.refresh()
        assert found() == (f"{changed},{both}", 5)
        assert http.post("/v1/search", json={**asked, "version": before[0]}).status_code == 200


def test_tables_of_several_models_are_not_served(two: list[Path]) -> None:
    south = TableLocation.parse(str(two[1]))
    embed_again(south, "fake:dim=24")
    with pytest.raises(TableError, match="Search each table alone"):
        several(two)
