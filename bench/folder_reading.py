"""Measure how fast one reading task reads a large folder in a store, compared with a bare loop.

The store is a local process that uses the S3 protocol. It responds to every request after a delay.
The bare loop fetches the same objects with urllib3, and uses the same number of threads as the
task. The bare loop does not sign requests, and does not check or parse objects.

    python -m bench.folder_reading measure --delay-ms 30
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs, unquote, urlsplit

import typer
import urllib3

app = typer.Typer()
_SIDECAR = b'{"gsd": 3}'
_PAGE = 1000


@app.command()
def measure(
    num_images: Annotated[int, typer.Option(help="Number of images in the folder.")] = 2000,
    image_bytes: Annotated[int, typer.Option(help="Size of an image in bytes.")] = 50_000,
    delay_ms: Annotated[float, typer.Option(help="Delay of the store in milliseconds.")] = 30.0,
    sidecars: Annotated[bool, typer.Option(help="Add a .json sidecar for each image.")] = False,
    repeats: Annotated[int, typer.Option(help="Number of runs. The median is reported.")] = 3,
    output: Annotated[
        Path | None, typer.Option(help="JSON file to which the result is also written.")
    ] = None,
) -> None:
    """Run the reading task and the bare loop alternately, and compare them."""
    options = [str(num_images), str(image_bytes), str(delay_ms / 1000)]
    options += ["--sidecars"] if sidecars else []
    server = subprocess.Popen(
        [sys.executable, "-m", "bench.folder_reading", "serve", *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        os.environ |= {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "NO_PROXY": "127.0.0.1",
        }
        runs = [_read() | _bare(url, num_images) for _ in range(repeats)]
    finally:
        server.kill()
        server.wait()
    medians = {key: round(statistics.median(run[key] for run in runs), 2) for key in runs[0]}
    text = json.dumps({"delay_ms": delay_ms, "sidecars": sidecars} | medians, indent=2)
    typer.echo(text)
    if output is not None:
        output.write_text(text + "\n", encoding="utf-8")


def _read() -> dict[str, float]:
    from skytext.archive import discover, read_shard

    (shard,) = discover(["s3://b/x"])
    start, cpu_start = time.perf_counter(), time.process_time()
    num_images = sum(sample.data is not None for sample in read_shard(shard))
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
    return {"images_per_s": num_images / seconds, "cpu_ms_per_image": 1000 * cpu_s / num_images}


def _bare(url: str, num_images: int) -> dict[str, float]:
    from skytext.archive.formats.folder import NUM_THREADS

    pool = urllib3.PoolManager(maxsize=NUM_THREADS)
    start = time.perf_counter()
    urls = [f"{url}/b/x/{i:06}.jpg" for i in range(num_images)]
    with ThreadPoolExecutor(NUM_THREADS) as threads:
        list(threads.map(lambda one: pool.request("GET", one).data, urls))
    return {"bare_images_per_s": num_images / (time.perf_counter() - start)}


@app.command(hidden=True)
def serve(num_images: int, image_bytes: int, delay_s: float, sidecars: bool = False) -> None:
    """Run the store, and print its port as the first line of output."""
    suffixes = ("jpg", "json") if sidecars else ("jpg",)
    keys = [f"x/{i:06}.{suffix}" for i in range(num_images) for suffix in suffixes]
    store = _Store(keys, b"x" * image_bytes, delay_s)
    asyncio.run(store.serve())


class _Store:
    def __init__(self, keys: list[str], image: bytes, delay_s: float) -> None:
        self._keys, self._image, self._delay_s = keys, image, delay_s

    async def serve(self) -> None:
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0, backlog=512)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(self._delay_s)
                writer.write(self._answer(head.split(b" ", 2)[1].decode()))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _answer(self, target: str) -> bytes:
        where = urlsplit(target)
        key = unquote(where.path).removeprefix("/b").strip("/")
        status, more = 200, ""
        if "list-type" in where.query:
            body = self._page(parse_qs(where.query))
        elif key in ("", "x"):  # The key `x` is a folder and not an object.
            status, body = 404, b""
        else:
            status, body = 206, self._content(key)
            more = f"Content-Range: bytes 0-{len(body) - 1}/{len(body)}\r\n"
        head = f"HTTP/1.1 {status} OK\r\n{more}Content-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    def _page(self, asked: dict[str, list[str]]) -> bytes:
        start = int(asked.get("continuation-token", ["0"])[0])
        items = ""
        for key in self._keys[start : start + _PAGE]:
            size = len(self._content(key))
            items += f"<Contents><Key>{key}</Key><ETag>e</ETag><Size>{size}</Size></Contents>"
        more = start + _PAGE < len(self._keys)
        token = f"<NextContinuationToken>{start + _PAGE}</NextContinuationToken>" if more else ""
        truncated = f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        return f"<ListBucketResult>{truncated}{items}{token}</ListBucketResult>".encode()

    def _content(self, key: str) -> bytes:
        return _SIDECAR if key.endswith("json") else self._image


if __name__ == "__main__":
    app()
