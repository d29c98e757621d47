from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skytext.service.http.content_coding import TooLongError, decoded
from tests.service.app import client

BODY = json.dumps({"text": "a brown river", "k": 1}).encode()


@pytest.fixture(scope="module")
def http(served: Path) -> Iterator[Any]:
    with client(served) as opened:
        yield opened


def post(http: Any, body: bytes, coding: str) -> Any:
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    return http.post("/v1/search", content=body, headers=headers)


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "x-gzip"])
def test_a_gzip_encoded_body_is_read(http: Any, coding: str) -> None:
    answer = post(http, gzip.compress(BODY), coding)
    assert answer.status_code == 200, answer.text
    assert answer.json() == post(http, BODY, "identity").json()


def test_a_body_without_an_encoding_is_read_unchanged(http: Any) -> None:
    assert post(http, BODY, "identity").status_code == 200


@pytest.mark.parametrize("coding", ["br", "deflate", "zstd", "gzip, gzip"])
def test_another_coding_is_a_415(http: Any, coding: str) -> None:
    answer = post(http, BODY, coding)
    assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "gzip")
    assert answer.json()["type"] == "urn:skytext:problem:unsupported-encoding"


@pytest.mark.parametrize(
    "body",
    [BODY, gzip.compress(BODY)[:-1], gzip.compress(BODY) + b"x"],
    ids=["plain", "cut", "longer"],
)
def test_an_incomplete_gzip_body_is_refused(http: Any, body: bytes) -> None:
    answer = post(http, body, "gzip")
    assert answer.status_code == 422
    assert answer.json()["detail"] == "the body is incomplete or is not gzip data"


def test_the_limit_counts_what_is_in_a_body(http: Any) -> None:
    bomb = gzip.compress(b'{"text": "' + b"a" * 10_000_000 + b'"}')
    assert len(bomb) < 65_536
    answer = post(http, bomb, "gzip")
    assert answer.status_code == 413
    assert answer.json()["detail"] == "the body may have at most 65,536 bytes"


def test_several_gzip_files_are_one() -> None:
    halves = gzip.compress(BODY[:10]) + gzip.compress(BODY[10:])
    assert decoded(halves, "gzip", len(BODY)) == BODY
    with pytest.raises(TooLongError):
        decoded(halves, "gzip", len(BODY) - 1)


def test_no_more_is_decompressed_than_is_allowed() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    tracemalloc.start()
    with pytest.raises(TooLongError):
        decoded(bomb, "gzip", 1_000)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1_000_000
