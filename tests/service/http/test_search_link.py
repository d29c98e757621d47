from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skytext.archive.shards import image_id
from skytext.cli.search import search as command
from skytext.service.http.search_link import SearchLink
from tests.service.app import client

RIVER = image_id("aerial", "a.tar", "river.jpg", 0)
AIRPORT = image_id("aerial", "a.tar", "airport.jpg", 0)
# Only the command line has these options. They concern local files, the model and the output.
_LOCAL = {"table", "image", "embedding_model", "config", "settings", "as_json"}


@pytest.fixture(scope="module")
def http(served: Path) -> Iterator[Any]:
    with client(served) as opened:
        yield opened


def found(http: Any, query: Any) -> list[str]:
    answer = http.get("/v1/search", params=query)
    assert answer.status_code == 200, answer.text
    return [hit["image_id"] for hit in answer.json()["hits"]]


def test_a_link_takes_what_the_command_line_takes() -> None:
    options = set(inspect.signature(command).parameters) - _LOCAL
    of_links = {"filter", "format", "intersects"}
    assert set(SearchLink.model_fields) == options - {"more_tables"} | of_links


@pytest.mark.parametrize(
    ("link", "body"),
    [
        ([("text", "planes"), ("text", "a river")], {"text": "planes", "texts": ["a river"]}),
        ([("text", "planes"), ("also", "a river")], {"text": "planes", "texts": ["a river"]}),
        (
            [("text", "planes"), ("also", "a river"), ("combine", "mean")],
            {"text": "planes", "texts": ["a river"], "combine": "mean"},
        ),
        ([("like", RIVER), ("like", AIRPORT)], {"like": [RIVER, AIRPORT]}),
        (
            [("text", "planes"), ("positive", "a river"), ("negative_image", AIRPORT)],
            {
                "text": "planes",
                "positive": [{"text": "a river"}],
                "negative": [{"image_id": AIRPORT}],
            },
        ),
        (
            [("negative", "planes"), ("positive-image", RIVER)],
            {"positive": [{"image_id": RIVER}], "negative": [{"text": "planes"}]},
        ),
        ([("text", "planes"), ("where", "gsd < 1")], {"text": "planes", "filter": "gsd < 1"}),
        (
            [("text", "planes"), ("exact", "true"), ("group-duplicates", "1"), ("k", "2")],
            {"text": "planes", "exact": True, "group_duplicates": True, "k": 2},
        ),
    ],
)
def test_a_link_searches_as_the_body_of_the_same_meaning(http: Any, link: Any, body: Any) -> None:
    asked, posted = http.get("/v1/search", params=link), http.post("/v1/search", json=body)
    assert asked.status_code == posted.status_code == 200, asked.text + posted.text
    assert asked.json() == posted.json()


@pytest.mark.parametrize(
    "query",
    [
        {"gsd_max": "0.6"},
        {"gsd-min": "0.5", "gsd-max": "0.5"},
        {"where": "gsd < 1"},
        {"after": "2024-05-31", "before": "2024-06-01"},
    ],
)
def test_filters_of_the_command_line_filter(http: Any, query: Any) -> None:
    assert set(found(http, {"text": "planes", **query})) == {RIVER, AIRPORT}
    assert len(found(http, {"text": "planes"})) == 4


@pytest.mark.parametrize("name", ["intersects", "polygon"])
@pytest.mark.parametrize(
    ("geometry", "images"),
    [
        ("POLYGON((4 51, 4.5 51, 4.5 51.5, 4 51))", [RIVER]),
        ('{"type": "Point", "coordinates": [4.2, 51.2]}', [RIVER]),
        # The bounding box of this triangle contains the image, but the triangle does not.
        ("POLYGON((0 51.2, 4.3 60, 0 60, 0 51.2))", []),
    ],
)
def test_a_geometry_is_compared_with_the_footprint(
    http: Any, name: str, geometry: str, images: list[str]
) -> None:
    assert found(http, {"text": "planes", name: geometry}) == images


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ({"text": "a", "collection": "missing"}, "collection"),
        ({"text": "a", "gsd_min": "2", "gsd_max": "1"}, "must not be above"),
        ({"text": "a", "gsd_min": "nan"}, "query.gsd_min"),
        (
            {"text": "a", "where": "gsd < 1", "filter": "gsd < 1"},
            "two names for the same parameter",
        ),
        (
            {"text": "a", "polygon": "POINT(4 51)", "intersects": "POINT(4 51)"},
            "two names for the same parameter",
        ),
        ({"text": "a", "like": "../../etc/passwd"}, "query.like"),
        ({"text": "a", "bbox": "1,2,3"}, "west,south,east,north"),
        ({"text": "a", "intersects": "here"}, "neither GeoJSON nor WKT"),
        ([("text", "a")] * 17, "query.text"),
        ([("text", "a")] * 10 + [("also", "b")] * 10, "at most 16"),
        ([("positive", "a")] * 16 + [("negative", "b")] * 17, "query.negative"),
        ({"text": ""}, "query.text"),
        ({}, "give a text"),
    ],
)
def test_a_wrong_link_is_a_problem(http: Any, query: Any, detail: str) -> None:
    answer = http.get("/v1/search", params=query)
    assert answer.status_code == 422, answer.text
    assert detail in answer.json()["detail"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_search_comes_as_geojson_where_that_is_accepted(http: Any, method: str) -> None:
    def kind(accept: str, **query: str) -> str:
        headers = {"Accept": accept}
        if method == "GET":
            answer = http.get("/v1/search", params={"text": "a", **query}, headers=headers)
        else:
            answer = http.post("/v1/search", json={"text": "a"}, headers=headers)
        assert answer.status_code == 200, answer.text
        return str(answer.headers["content-type"])

    assert kind("Application/GEO+JSON; charset=utf-8") == "application/geo+json"
    assert kind("application/geo+json;q=0.5, application/json") == "application/json"
    if method == "GET":
        assert kind("application/geo+json", format="json") == "application/json"
        assert kind("application/json", format="geojson") == "application/geo+json"
