"""Test several tables that are served as one table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skytext.archive.shards import image_id
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.versions.promote_rollback import promote
from skytext_client import Client
from tests.client.test_client import Through
from tests.service.app import client
from tests.service.tables import encoded

RIVER, HARBOUR = (image_id("aerial", "a.tar", name, 0) for name in ("river.jpg", "harbour.jpg"))
ASKED = {"text": "a brown river", "k": 9}


def latest(table: Path) -> int:
    return ImagesTable.open(TableLocation.parse(str(table))).version


@pytest.fixture(scope="module")
def http(served_two: list[Path]) -> Iterator[Any]:
    with client(served_two[0], more=served_two[1:]) as opened:
        yield opened


def answer(response: Any) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


def places(found: Any) -> list[tuple[str, str]]:
    return [(hit["table"], hit["uri"].rpartition("#")[2]) for hit in found["hits"]]


def test_a_search_finds_the_images_of_all_tables(http: Any, served_two: list[Path]) -> None:
    found = answer(http.post("/v1/search", json=ASKED))
    assert places(found)[:2] == [("north", "river.jpg"), ("south", "river.jpg")]
    assert set(places(found)[2:]) == {
        ("north", "airport.jpg"), ("north", "forest.jpg"), ("south", "harbour.jpg"),
    }  # fmt: skip
    versions = [latest(table) for table in served_two]
    assert found["table_version"] == "{},{}".format(*versions)
    assert found["table_versions"] == dict(zip(("north", "south"), versions, strict=True))
    again = {**ASKED, "version": found["table_version"]}
    assert answer(http.post("/v1/search", json=again)) == found
    assert answer(http.get("/v1/search", params=again)) == found
    batch = answer(http.post("/v1/search/batch", json={"searches": [ASKED, again]}))
    assert batch["answers"] == [found, found]
    shown = answer(http.get("/v1/search", params={**ASKED, "format": "geojson"}))
    assert shown["features"][1]["properties"]["table"] == "south"
    assert shown["table_version"] == found["table_version"]


def test_pages_continue_over_all_tables(http: Any) -> None:
    whole, paged, cursor = answer(http.post("/v1/search", json=ASKED)), [], None
    while True:
        body = {**ASKED, "k": 2, **({} if cursor is None else {"cursor": cursor})}
        page = answer(http.post("/v1/search", json=body))
        paged += places(page)
        assert page["table_version"] == whole["table_version"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert paged == places(whole)


def test_an_image_is_found_in_its_table(http: Any) -> None:
    row = answer(http.get(f"/v1/images/{HARBOUR}"))
    assert (row["table"], row["captions"][0]["one_sentence"]) == ("south", "ships in a harbour")
    assert answer(http.get(f"/v1/images/{RIVER}"))["table"] == "north"
    of_south = {"table": "south", "version": row["table_version"]}
    assert answer(http.get(f"/v1/images/{RIVER}", params=of_south))["table"] == "south"
    assert http.get(f"/v1/images/{HARBOUR}", params={"table": "north"}).status_code == 404
    image = http.get(f"/v1/images/{HARBOUR}/bytes", params=of_south)
    assert image.content == encoded("blue")
    assert image.headers["X-Table-Version"] == row["table_version"]
    assert http.get(f"/v1/images/{HARBOUR}/thumbnail").headers["content-type"] == "image/webp"
    unknown = http.get(f"/v1/images/{HARBOUR}", params={"table": "west"})
    assert unknown.status_code == 422
    assert "table must be one of north, south (given: 'west')" in unknown.json()["detail"]


def test_more_like_an_image_of_one_table_looks_in_all(http: Any) -> None:
    found = answer(http.post("/v1/search", json={"like": [HARBOUR], "k": 9}))
    assert len(found["hits"]) == 4
    assert {hit["table"] for hit in found["hits"]} == {"north", "south"}


def test_the_service_describes_all_tables_and_each_one(http: Any, served_two: Any) -> None:
    about = answer(http.get("/v1/table"))
    versions = [latest(table) for table in served_two]
    assert (about["num_ok"], about["num_failed"], about["live_version"]) == (5, 2, None)
    assert about["latest_version"] == about["table_version"] == "{},{}".format(*versions)
    assert about["caption_models"] == ["fake"]
    assert set(about["filter_columns"]) >= {"bbox", "gsd", "datetime"}
    each = {one["name"]: one for one in about["tables"]}
    assert [each[name]["num_ok"] for name in ("north", "south")] == [3, 2]
    assert [each[name]["table_version"] for name in ("north", "south")] == versions
    assert answer(http.get("/readyz"))["table_version"] == about["table_version"]
    text = http.get("/metrics").text
    for name, version in zip(("north", "south"), versions, strict=True):
        assert f'skytext_table_version{{table="{name}"}} {version:.1f}' in text


@pytest.mark.parametrize(
    ("version", "status"), [(1, 422), ("1,1,1", 422), ("999,1", 410), ("1,", 422), ("a", 422)]
)
def test_a_version_is_one_of_each_table(http: Any, version: Any, status: int) -> None:
    refused = http.post("/v1/search", json={**ASKED, "version": version})
    assert refused.status_code == status, refused.text
    assert http.get("/v1/search", params={**ASKED, "version": version}).status_code == status


def test_a_cursor_of_one_table_is_refused_by_several(http: Any, served: Path) -> None:
    with client(served) as single:
        cursor = answer(single.post("/v1/search", json={**ASKED, "k": 1}))["next_cursor"]
    refused = http.post("/v1/search", json={**ASKED, "k": 1, "cursor": cursor})
    assert refused.status_code == 422
    assert "a search of one table" in refused.json()["detail"]


def test_no_answer_contains_the_address_of_a_table(http: Any, served_two: list[Path]) -> None:
    wrong = http.post("/v1/admin/promote", json={"table": "south", "version": 999})
    assert (wrong.status_code, wrong.json()["detail"].split()[0]) == (422, "south")
    texts = [
        wrong.text,
        http.post("/v1/search", json={**ASKED, "mode": "text"}).text,
        *(http.get(path).text for path in ("/v1/table", "/v1/search?text=a&mode=text")),
    ]
    assert not any(
        str(served_two[0].parent / name) in text for text in texts for name in ("north", "south")
    )


def test_one_table_is_promoted_while_the_other_stays(two: list[Path]) -> None:
    north, south = (TableLocation.parse(str(table)) for table in two)
    last = [latest(table) for table in two]
    promote(north, last[0] - 1)
    promote(south, last[1])
    with client(two[0], more=two[1:]) as http:
        before = answer(http.post("/v1/search", json={**ASKED, "k": 1}))
        assert before["table_version"] == f"{last[0] - 1},{last[1]}"
        for path in ("promote", "rollback"):
            unnamed = http.post(f"/v1/admin/{path}", json={})
            assert unnamed.status_code == 422
            assert "table is required, and must be one of north, south" in unnamed.json()["detail"]
        done = answer(http.post("/v1/admin/promote", json={"table": "north"}))
        assert done == {"live_version": last[0], "previous_version": last[0] - 1}
        now = answer(http.post("/v1/search", json=ASKED))
        assert now["table_version"] == f"{last[0]},{last[1]}"
        # The next page uses the versions of the previous page.
        more = {**ASKED, "k": 1, "cursor": before["next_cursor"]}
        assert (
            answer(http.post("/v1/search", json=more))["table_version"] == before["table_version"]
        )
        tables = answer(http.get("/v1/table"))["tables"]
        assert [one["live_version"] for one in tables] == last
        answer(http.post("/v1/admin/rollback", json={"table": "north"}))
        back = answer(http.post("/v1/search", json=ASKED))
        assert back["table_version"] == before["table_version"]


def test_a_client_asks_the_table_of_a_hit(two: list[Path]) -> None:
    promote(TableLocation.parse(str(two[1])), latest(two[1]) - 1)
    with (
        client(two[0], more=two[1:]) as http,
        Client("http://localhost", transport=Through(http)) as ours,
    ):
        found = ours.search("a brown river", k=2)
        assert [hit.table for hit in found] == ["north", "south"]
        for hit in found:
            row = ours.image(hit, version=found.table_version)
            assert (row.table, row.table_version) == (hit.table, found.table_version)
            assert ours.read_image(hit) == encoded("brown")
        assert [page.table_versions for page in ours.pages("a", k=2)] == [found.table_versions] * 3
        assert ours.promote(table="south") == latest(two[1])
        assert [one.name for one in ours.table().tables] == ["north", "south"]
        assert ours.rollback(table="south") == latest(two[1]) - 1
