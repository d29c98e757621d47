"""Test searches by an uploaded image. The uploads are valid images, decompression bombs and other
files."""

from __future__ import annotations

import io
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from struct import pack
from typing import Any

import pytest

from skytext.config.settings import load_config
from skytext.errors import Reason, SampleError, Stage
from skytext.pixels.decode import inspect_image
from skytext.service.problem_details import ProblemError
from skytext.service.replicas.model_workers import CaptionWorker
from skytext.service.replicas.refusals import Refusal, answer_of
from skytext.service.telemetry.metrics import LocalMeter
from tests.service.app import client
from tests.service.tables import encoded

described: list[bytes] = []


async def describe(data: bytes, key: str) -> list[str]:
    described.append(data)
    return ["a brown river", "water in fields"]


@pytest.fixture(scope="module")
def http(served: Path) -> Iterator[Any]:
    with client(served, describe, limits__max_upload_bytes=100_000) as opened:
        yield opened


def upload(http: Any, data: bytes, name: str = "a.jpg", **form: Any) -> Any:
    return http.post("/v1/search/image", files={"file": (name, data)}, data=form)


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return pack(">I", len(data)) + kind + data + pack(">I", zlib.crc32(kind + data))


def png_bomb(side_px: int) -> bytes:
    """Return a PNG of a few kB. Its header claims a width and a height of ``side_px`` pixels."""
    header = pack(">IIBBBBB", side_px, side_px, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1_000_000), 9)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_an_image_is_described_and_searched_for(http: Any) -> None:
    answer = upload(http, encoded("brown"), k=2, filter="gsd < 1")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["queries"] == ["a brown river", "water in fields"]
    assert found["hits"][0]["one_sentence"] in found["queries"]
    assert described[-1] == encoded("brown")


def test_an_upload_without_a_captioner_is_refused(served: Path) -> None:
    with client(served) as http:
        answer = upload(http, encoded("brown"))
        assert answer.status_code == 501
        assert "service.captioner" in answer.json()["detail"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7",
        png_bomb(100_000),
        png_bomb(2**31 - 1),
        encoded("red")[:40],
    ],
    ids=["empty", "text", "svg", "pdf", "bomb", "largest bomb", "cut off"],
)
def test_an_invalid_image_does_not_reach_the_model(http: Any, data: bytes) -> None:
    before = len(described)
    answer = upload(http, data)
    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:skytext:problem:not-an-image"
    assert len(described) == before


def test_an_upload_that_is_too_large_is_refused(http: Any) -> None:
    assert upload(http, b"x" * 200_000).status_code == 413


def test_a_header_that_takes_minutes_to_read_is_refused(served: Path) -> None:
    start, rest = encoded("red")[:2], encoded("red")[2:]
    size = pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(65 * 64))) + chunk(b"IEND")
    headers = {
        "filled": start + b"\xff" * 6_000_000 + rest,
        "filled to the end": start + b"\xff" * 6_000_000 + b"\0",
        "junk": start + b"\xff\xd0" * 3_000_000 + rest,
        "comments": start + b"\xff\xfe\x00\x02" * 1_500_000 + rest,
        "chunks": b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"prVt") * 500_000 + pixels,
    }
    with client(served, describe) as http:
        for name, data in headers.items():
            started = time.thread_time()
            with pytest.raises(
                SampleError,
                match=r"the header has (more than 10000 parts|\d+ bytes that belong to no part)",
            ):
                inspect_image(data)
            # The limit is one second, because the machine of the test may be slow.
            assert time.thread_time() - started < 1, name
            answer = upload(http, data)
            assert (answer.status_code, answer.json()["type"]) == (
                422,
                "urn:skytext:problem:not-an-image",
            )


def test_an_upload_is_looked_at_beside_other_requests(
    served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def note(data: bytes, limits: Any) -> None:
        threads.append(threading.current_thread())
        raise SampleError(Stage.DECODE, Reason.NOT_AN_IMAGE, "no image")

    monkeypatch.setattr("skytext.service.http.search_routes.inspect_image", note)
    with client(served, describe) as http:
        assert upload(http, b"x").status_code == 422
        loops = http.portal.call(threading.current_thread)
        assert threads != [loops]
    with client(served) as http:
        assert upload(http, b"x").status_code == 501
    assert len(threads) == 1


@pytest.mark.parametrize("name", ["../../etc/passwd", "a\x00.jpg", "x" * 5000, "a;b=c"])
def test_the_name_of_a_file_means_nothing(http: Any, name: str) -> None:
    assert upload(http, encoded("brown"), name).status_code in (200, 422)


def test_a_form_that_is_none_is_a_problem(http: Any) -> None:
    part = "--b\r\nContent-Disposition: form-data"
    many = "".join(f'{part}; name="f{i}"\r\n\r\n\r\n' for i in range(900))
    forms = [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"x" * 50_000),
        ("multipart/form-data; boundary=b", f"{part}\r\n\r\n\r\n--b--".encode()),
        ("multipart/form-data; boundary=b", f"{many}--b--".encode()),
        ("application/json", b"{}"),
        ("application/x-www-form-urlencoded", b"file=x"),
    ]
    for kind, body in forms:
        answer = http.post("/v1/search/image", content=body, headers={"Content-Type": kind})
        assert answer.status_code == 422, (kind, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_captioner_describes_and_refuses() -> None:
    import asyncio

    config = load_config(None, {"caption.model": "fake"})
    worker = CaptionWorker(config, LocalMeter())
    try:
        texts = asyncio.run(worker.describe(encoded("brown"), "key"))
        assert isinstance(texts, list)
        assert len(texts) == config.caption.num_variants
        assert all(text.startswith("ONE_SENTENCE: ") for text in texts)
        broken = io.BytesIO(encoded("brown")).read()[:-200]
        refused = asyncio.run(worker.describe(broken, "key"))
        assert isinstance(refused, Refusal)
        with pytest.raises(ProblemError, match="not-describable"):
            answer_of(refused)
    finally:
        worker.close()
