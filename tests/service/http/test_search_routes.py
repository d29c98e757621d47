from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skytext.archive.shards import image_id
from skytext.errors import TableError
from skytext.service.problem_details import too_busy
from skytext.service.replicas.deployment_calls import EmbedHandle
from skytext.table.images_dataset import ImagesTable
from tests.service.app import client

RIVER = image_id("aerial", "a.tar", "river.jpg", 0)


@pytest.fixture(scope="module")
def http(served: Path) -> Iterator[Any]:
    with client(served) as opened:
        yield opened


def search(http: Any, **body: Any) -> Any:
    answer = http.post("/v1/search", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_search_finds_images_and_names_the_version(http: Any) -> None:
    found = search(http, text="a brown river", k=2)
    assert found["hits"][0]["image_id"] == RIVER
    assert len(found["hits"]) == 2
    assert found["table_version"] == http.application.searches.versions.live.table.version
    best = found["hits"][0]
    assert best["one_sentence"] == "a brown river"
    assert best["bbox"] == [4.0, 51.0, 4.5, 51.5]
    assert best["score"] > found["hits"][1]["score"]


@pytest.mark.parametrize(
    "condition",
    [
        "gsd < 1 AND S_INTERSECTS(geometry, BBOX(3, 50, 5, 52))",
        {"op": "s_intersects", "args": [{"property": "geometry"}, {"bbox": [3, 50, 5, 52]}]},
    ],
)
def test_a_filter_is_cql2_text_or_json(http: Any, condition: Any) -> None:
    found = search(http, text="planes", filter=condition)
    assert [hit["image_id"] for hit in found["hits"]] == [RIVER]


def test_a_link_searches_the_same(http: Any) -> None:
    parameters = {"text": "planes", "k": 3, "bbox": "3,50,5,52", "after": "2024-01-01"}
    answer = http.get("/v1/search", params=parameters)
    assert answer.status_code == 200, answer.text
    assert [hit["image_id"] for hit in answer.json()["hits"]] == [RIVER]


def test_results_come_as_geojson(http: Any) -> None:
    link = http.get("/v1/search", params={"text": "a river", "k": 4, "format": "geojson"})
    assert link.headers["content-type"] == "application/geo+json"
    asked = http.post(
        "/v1/search", json={"text": "a river", "k": 4}, headers={"Accept": "application/geo+json"}
    )
    assert asked.json() == link.json()
    found = link.json()
    assert found["type"] == "FeatureCollection"
    by_member = {f["properties"]["uri"].rpartition("#")[2]: f for f in found["features"]}
    assert by_member["river.jpg"]["geometry"] == {
        "type": "Polygon",
        "coordinates": [[[4.0, 51.0], [4.5, 51.0], [4.5, 51.5], [4.0, 51.5], [4.0, 51.0]]],
    }
    over_the_antimeridian = by_member["airport.jpg"]["geometry"]
    assert over_the_antimeridian["type"] == "MultiPolygon"
    lons = [[x for x, _ in ring[0]] for ring in over_the_antimeridian["coordinates"]]
    assert [(min(some), max(some)) for some in lons] == [(170.0, 180.0), (-180.0, -170.0)]
    assert by_member["forest.jpg"]["geometry"] is None
    assert [f["properties"]["rank"] for f in found["features"]] == [1, 2, 3, 4]


def test_a_batch_is_answered_in_order_from_one_version(http: Any) -> None:
    texts = ["a brown river", "planes on a runway", "dense forest"]
    answer = http.post("/v1/search/batch", json={"searches": [{"text": t, "k": 1} for t in texts]})
    answers = answer.json()["answers"]
    assert [a["hits"][0]["one_sentence"] for a in answers] == texts
    assert len({a["table_version"] for a in answers}) == 1


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "give a text"),
        ({"text": " "}, "empty"),
        ({"text": "a", "k": 0}, "body.k"),
        ({"text": "a", "k": 1001}, "body.k"),
        ({"text": "a", "k": 10**30}, "body.k"),
        ({"text": "a", "colour": "red"}, "body.colour"),
        ({"text": "a", "filter": "1=1; drop"}, "wrong at column 4"),
        ({"text": "a", "filter": "gsd < 1 or true"}, "expected a condition"),
        (
            {"text": "a", "filter": {"op": "<", "args": [{"property": "vectors"}, 1]}},
            "the filter is wrong: there is no column 'vectors'",
        ),
        ({"text": "a", "filter": {"op": "sql", "text": "1=1"}}, "at op: SQL is not supported"),
        ({"text": "a", "filter": ["gsd"]}, "body.filter"),
        (
            {"text": "a", "intersects": {"type": "Polygon", "coordinates": [[[0, 0], [1]]]}},
            "the geometry is wrong at coordinates.0.1: a position must be a longitude",
        ),
        ({"text": "a", "filter": "metadata.nothing = 1"}, "no image"),
        ({"text": "a", "like": ["../../etc/passwd"]}, "body.like"),
        ({"text": "\ud800"}, "text"),
        ("text", "body"),
        ([], "body"),
    ],
)
def test_a_wrong_search_is_a_problem(http: Any, body: Any, detail: str) -> None:
    sent = json.dumps(body).encode()
    answer = http.post("/v1/search", content=sent, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert detail in problem["detail"]
    assert problem["status"] == 422
    assert problem["instance"] == "/v1/search"
    assert problem["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("sent", [b"{", b"\xff\xfe", b'{"text": NaN}', b"[" * 50_000, b""])
def test_a_body_that_is_not_json_is_a_problem(http: Any, sent: bytes) -> None:
    answer = http.post("/v1/search", content=sent, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:skytext:problem:bad-request"


def test_other_errors_are_problems_too(http: Any) -> None:
    missing = http.get("/v1/nothing")
    assert (missing.status_code, missing.json()["title"]) == (404, "Not Found")
    wrong = http.delete("/v1/search")
    assert (wrong.status_code, wrong.json()["title"]) == (405, "Method Not Allowed")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/search", "GET, HEAD, POST"),
        ("/v1/search/batch", "POST"),
        ("/v1/table", "GET, HEAD"),
        ("/page/main.js", "GET, HEAD"),
        ("/openapi.json", "GET, HEAD"),
    ],
)
def test_a_405_lists_the_allowed_methods(http: Any, path: str, allowed: str) -> None:
    answer = http.delete(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize(
    "path",
    [
        "/healthz", "/readyz", "/", "/page.json", "/page/main.js", "/openapi.json", "/v1/table",
        "/v1/search?text=a", f"/v1/images/{RIVER}", f"/v1/images/{RIVER}/bytes", "/v1/nothing",
        f"/v1/images/{RIVER}/thumbnail", f"/v1/images/{'f' * 32}",
    ],
)  # fmt: skip
def test_every_get_route_supports_head(http: Any, path: str) -> None:
    whole, asked = http.get(path), http.head(path)
    assert (asked.status_code, asked.content) == (whole.status_code, b"")
    for name in ("content-type", "content-length", "etag"):
        assert asked.headers.get(name) == whole.headers.get(name)


def test_a_post_route_does_not_support_head(http: Any) -> None:
    answer = http.head("/v1/admin/rollback")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("path", ["/v1/table/", "/v1/search/", "/page", "/healthz/"])
def test_no_path_is_redirected(http: Any, path: str) -> None:
    answer = http.get(path, follow_redirects=False)
    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:skytext:problem:not-found"


def test_limits_of_this_service(served: Path) -> None:
    with client(served, limits__max_k=5, limits__max_batch=2, limits__max_body_bytes=500) as http:
        assert http.post("/v1/search", json={"text": "a", "k": 6}).status_code == 422
        assert http.post("/v1/search", json={"text": "a", "k": 5}).status_code == 200
        assert http.post("/v1/search", json={"text": "a" * 500}).status_code == 413


@pytest.mark.parametrize("error", [TableError("cannot open /secret"), OSError("/secret")])
def test_a_table_whose_store_does_not_answer_is_a_503(
    http: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(_: Any) -> int:
        raise error

    monkeypatch.setattr(ImagesTable, "latest_version", fail)
    answer = http.get("/v1/table")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["type"] == "urn:skytext:problem:table-unreadable"
    assert "secret" not in answer.text


@pytest.mark.parametrize("path", ["promote", "rollback"])
def test_a_refused_promotion_does_not_contain_the_address_of_the_table(
    http: Any, path: str
) -> None:
    answer = http.post(f"/v1/admin/{path}", json={"version": 999})
    assert answer.status_code == 422
    assert "TABLE" in answer.json()["detail"]
    assert (
        str(http.application.searches.versions.live.table.location.uri).lstrip("/")
        not in answer.text
    )


def test_a_busy_embedding_is_a_503_however_many_texts(
    served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def busy(_: Any, text: str, __: int | None = None) -> Any:
        asked.append(text)
        raise too_busy("too many requests are waiting already", 3)

    with client(served) as http:
        monkeypatch.setattr(EmbedHandle, "query", busy)
        for body in ({"text": "a"}, {"text": "a", "texts": ["b", "c"]}):
            answer = http.post("/v1/search", json=body)
            assert answer.status_code == 503, answer.text
            assert answer.headers["retry-after"] == "3"
        batch = {"searches": [{"text": "a"}, {"text": "b"}]}
        assert http.post("/v1/search/batch", json=batch).status_code == 503
    assert set(asked) == {"a", "b", "c"}


def test_the_texts_of_one_request_are_bounded(served: Path) -> None:
    with client(served, limits__max_texts=3) as http:
        three = {"text": "a", "texts": ["b"], "positive": [{"text": "c"}, {"text": "a"}]}
        assert http.post("/v1/search", json=three).status_code == 200
        # Both searches have the same texts. The service embeds each different text once.
        assert http.post("/v1/search/batch", json={"searches": [three, three]}).status_code == 200
        four = {"searches": [three, {"text": "d"}]}
        answer = http.post("/v1/search/batch", json=four)
        assert answer.status_code == 413
        said = "a request may contain at most 3 different texts (given: 4)"
        assert answer.json()["detail"] == said


@pytest.mark.parametrize("number", [33, 1000, 1001, 4000])
def test_a_batch_above_the_limit_is_refused_at_any_length(http: Any, number: int) -> None:
    answer = http.post("/v1/search/batch", json={"searches": [{"text": "a"}] * number})
    assert answer.status_code == 413
    assert answer.json()["detail"] == f"a batch may have at most 32 searches (given: {number})"


def test_an_internal_error_does_not_reveal_its_cause(
    served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with client(served) as http:

        async def fail(*_: Any) -> Any:
            raise RuntimeError("the secret of the house")

        monkeypatch.setattr(http.application.searches, "search", fail)
        answer = http.post("/v1/search", json={"text": "a"})
        assert answer.status_code == 500
        assert answer.json()["type"] == "urn:skytext:problem:internal"
        assert "secret" not in answer.text


def test_the_table_and_health_routes_answer(http: Any) -> None:
    table = http.get("/v1/table").json()
    assert (table["num_ok"], table["num_failed"]) == (4, 1)
    assert table["live_version"] is None
    assert table["latest_version"] == table["table_version"]
    assert table["caption_models"] == ["fake"]
    assert table["filter_columns"] == ["datetime", "bbox", "gsd"]
    # The table has no text index.
    assert (table["modes"], table["default_mode"]) == (["dense"], "dense")
    assert http.get("/healthz").json() == {"status": "ok"}
    ready = {"status": "ok", "table_version": table["table_version"], "no_image_search": None}
    assert http.get("/readyz").json() == ready


def test_requests_are_counted(served: Path) -> None:
    with client(served) as http:
        http.get("/v1/table")
        http.head("/v1/table")
        text = http.get("/metrics").text
    for method in ("GET", "HEAD"):
        counted = f'skytext_requests_total{{method="{method}",route="/v1/table",status="200"}} 1.0'
        assert counted in text


def test_every_answer_carries_the_headers_that_keep_browsers_safe(http: Any) -> None:
    for path in ("/healthz", "/v1/table", "/missing"):
        headers = http.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers


def test_a_request_id_is_taken_over_if_it_is_one(http: Any) -> None:
    own = http.get("/healthz", headers={"X-Request-ID": "mine-1"})
    assert own.headers["x-request-id"] == "mine-1"
    forged = http.get("/healthz", headers={"X-Request-ID": "a b\x01"})
    assert forged.headers["x-request-id"] != "a b\x01"


def test_the_openapi_document_is_complete(http: Any) -> None:
    document = http.get("/openapi.json").json()
    for path in (
        "/v1/search", "/v1/search/batch", "/v1/search/image", "/v1/images/{image_id}",
        "/v1/images/{image_id}/bytes", "/v1/images/{image_id}/thumbnail", "/v1/table",
        "/v1/admin/promote", "/v1/admin/rollback", "/healthz", "/readyz", "/metrics",
    ):  # fmt: skip
        for operation in document["paths"][path].values():
            assert operation["summary"]
            assert operation["responses"]["200"]
    assert document["components"]["schemas"]["SearchBody"]["examples"]
    assert "HTTPValidationError" not in json.dumps(document["paths"])


def with_refs(node: Any, document: Any) -> Any:
    """Return the schema with the target of each reference in place of the reference."""
    if isinstance(node, list):
        return [with_refs(item, document) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node and isinstance(node["$ref"], str):
        name = node["$ref"].removeprefix("#/components/schemas/")
        schema = document["components"]["schemas"][name]
        # Do not resolve references in conditions, because conditions contain conditions.
        return schema if name.endswith(("And", "Or", "Not")) else with_refs(schema, document)
    return {key: with_refs(value, document) for key, value in node.items()}


def test_the_openapi_document_has_an_example_of_everything(http: Any) -> None:
    document = http.get("/openapi.json").json()
    lacking = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts = {p["name"]: p for p in operation.get("parameters", ())}
            parts["body"] = operation.get("requestBody", {"example": None})
            answers = operation["responses"]["200"]["content"]
            parts |= {kind: content for kind, content in answers.items() if is_text(kind)}
            for name, part in parts.items():
                if '"example' not in json.dumps(with_refs(part, document)):
                    lacking.append(f"{method} {path}: {name}")
    assert not lacking


def is_text(media_type: str) -> bool:
    return not media_type.startswith(("image/", "application/octet-stream"))


def test_pages_continue_after_the_last_hit(http: Any) -> None:
    whole = [hit["image_id"] for hit in search(http, text="a river", k=4)["hits"]]
    seen, cursor = [], None
    for _ in range(4):
        page = search(http, text="a river", k=1, **({"cursor": cursor} if cursor else {}))
        seen += [hit["image_id"] for hit in page["hits"]]
        cursor = page["next_cursor"]
    assert seen == whole
    assert cursor is None


def test_more_like_an_image(http: Any) -> None:
    found = search(http, like=[RIVER], negative=[{"text": "planes on a runway"}], k=4)
    assert RIVER not in [hit["image_id"] for hit in found["hits"]]
    assert len(found["hits"]) == 3
    missing = http.post("/v1/search", json={"like": ["f" * 32]})
    assert missing.status_code == 422


@pytest.mark.parametrize("cursor", ["x", "AAAA", "WzEsOTldCg", "é", "../..", "W" * 4096, "null"])
def test_a_cursor_that_is_none_is_a_problem(http: Any, cursor: str) -> None:
    answer = http.post("/v1/search", json={"text": "a", "cursor": cursor})
    assert answer.status_code == 422
    assert "cursor" in answer.json()["detail"]
