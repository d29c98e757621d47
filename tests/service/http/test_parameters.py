from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skytext.archive.shards import image_id
from tests.service.app import client
from tests.service.tables import encoded

RIVER = image_id("aerial", "a.tar", "river.jpg", 0)


async def describe(data: bytes, key: str) -> list[str]:
    return ["a brown river"]


@pytest.fixture(scope="module")
def http(served: Path) -> Iterator[Any]:
    with client(served, describe) as opened:
        yield opened


def refusal(answer: Any) -> str:
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return str(answer.json()["detail"])


def test_every_route_refuses_a_parameter_that_it_does_not_know(http: Any) -> None:
    paths = http.get("/openapi.json").json()["paths"]
    for path, operations in paths.items():
        for method in operations:
            address = path.replace("{image_id}", RIVER)
            said = refusal(http.request(method, address, params={"colour": "red"}))
            unknown = "query.colour: this parameter is unknown. The known parameters are "
            assert said.startswith(unknown), path


def test_a_refused_parameter_is_named_beside_those_that_are_known(http: Any) -> None:
    answer = http.get(f"/v1/images/{RIVER}/thumbnail", params={"width": "512"})
    said = "this parameter is unknown. The known parameters are size, table, version"
    assert refusal(answer) == f"query.width: {said}"
    assert answer.json()["errors"] == [{"field": "query.width", "message": said}]


def test_the_page_route_accepts_any_parameter(http: Any) -> None:
    assert http.get("/", params={"text": "a river", "until": "2024-05-31"}).status_code == 200


@pytest.mark.parametrize("query", ["text=a&k=1&k=2", "text=a&gsd_max=1&gsd-max=2"])
def test_a_second_value_of_a_single_valued_parameter_is_refused(http: Any, query: str) -> None:
    assert "given more than once" in refusal(http.get(f"/v1/search?{query}"))


@pytest.mark.parametrize(
    ("path", "body", "key"),
    [
        ("search", '{"text": "a", "k": 1, "k": 2}', "k"),
        ("search", '{"text": "a", "k": 1, "\\u006b": 1}', "k"),
        ("search", '{"text": "a", "filter": {"op": "isNull", "args": [], "op": "not"}}', "op"),
        ("search/batch", '{"searches": [{"text": "a", "text": "b"}]}', "text"),
        ("admin/promote", '{"version": 1, "version": 2}', "version"),
    ],
)
def test_a_key_of_a_body_that_is_given_twice_is_refused(
    http: Any, path: str, body: str, key: str
) -> None:
    headers = {"Content-Type": "application/json"}
    answer = http.post(f"/v1/{path}", content=body, headers=headers)
    said = f"body: {key!r} is given more than once, but only one value is allowed"
    assert refusal(answer) == said
    assert answer.json()["type"] == "urn:skytext:problem:bad-request"


@pytest.mark.parametrize("text", ["flu%DF", "%FF", "a%C3", "%ED%A0%80"])
def test_escaped_bytes_that_are_not_utf_8_are_refused(http: Any, text: str) -> None:
    answer = http.get(f"/v1/search?text={text}")
    assert refusal(answer) == "the query string must be encoded in UTF-8"


def test_unescaped_bytes_are_read_as_utf_8(http: Any) -> None:
    """Test a query string with unescaped bytes, as curl sends them. The framework decodes such
    bytes as Latin-1."""
    condition = "collection = 'M\u00fcnchen'"
    escaped = http.get("/v1/search", params={"text": "a", "filter": condition})
    raw = http.get(b"/v1/search?text=a&filter=".decode() + condition)
    assert raw.status_code == escaped.status_code
    assert raw.json()["detail"] == escaped.json()["detail"]


@pytest.mark.parametrize("body", [b'{"text": "flu\xdf"}', b'{"text": "a\xc3"}'])
def test_a_body_that_is_not_utf_8_is_refused(http: Any, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    refusal(http.post("/v1/search", content=body, headers=headers))


def form(**fields: bytes) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers of a form. The form has an image, and fields with any
    bytes."""
    parts = [(b'name="file"; filename="a.jpg"', encoded("brown"))]
    parts += [(f'name="{name}"'.encode(), value) for name, value in fields.items()]
    body = b"".join(
        b"--x\r\nContent-Disposition: form-data; " + head + b"\r\n\r\n" + value + b"\r\n"
        for head, value in parts
    )
    return body + b"--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}


def test_a_field_of_a_form_that_is_not_utf_8_is_refused(http: Any) -> None:
    latin, headers = form(filter="collection = 'M\u00fcnchen' or gsd < 1".encode("latin-1"))
    answer = http.post("/v1/search/image", content=latin, headers=headers)
    assert refusal(answer) == "the filter must be encoded in UTF-8"
    utf_8, headers = form(filter=b"gsd < 1 or gsd > 1")
    assert http.post("/v1/search/image", content=utf_8, headers=headers).status_code == 200


def test_a_field_of_a_form_that_is_not_known_is_refused(http: Any) -> None:
    body, headers = form(gsd_max=b"1")
    answer = http.post("/v1/search/image", content=body, headers=headers)
    assert refusal(answer).startswith("body.gsd_max: this parameter is unknown")
    files = [("file", ("a.jpg", encoded("brown"))), ("file", ("b.jpg", encoded("blue")))]
    assert "given more than once" in refusal(http.post("/v1/search/image", files=files))
