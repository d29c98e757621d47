"""A small Google Cloud Storage server in its own process.

The server supports only the requests that readers of archives send.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

_PAGE = 5


class FakeGcs:
    """Buckets with objects. If ``status`` is not 0, every request fails with this status."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, tuple[bytes, int]]] = {}
        self.requests: list[str] = []
        self.status = 0
        self._generation = 1

    def put(self, bucket: str, name: str, data: bytes) -> None:
        self._generation += 1
        self.objects.setdefault(bucket, {})[name] = (data, self._generation)

    def delete(self, bucket: str, name: str) -> None:
        del self.objects[bucket][name]

    def describe(self, bucket: str, name: str) -> dict[str, Any]:
        data, generation = self.objects[bucket][name]
        when = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=generation)
        stamp = when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "kind": "storage#object",
            "bucket": bucket,
            "name": name,
            "size": str(len(data)),
            "generation": str(generation),
            "metageneration": "1",
            "timeCreated": stamp,
            "updated": stamp,
        }


def serve() -> None:
    """Serve until this process ends. Print the address of the server as the first line."""
    store = FakeGcs()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def fail(self, status: int) -> None:
            answer_json = {"error": {"code": status, "message": "no"}}
            self.answer(status, json.dumps(answer_json).encode(), Content_Type="application/json")

        def do_GET(self) -> None:
            where = urlsplit(self.path)
            asked = {key: values[0] for key, values in parse_qs(where.query).items()}
            store.requests.append(f"{self.path} {self.headers.get('Range', '')}".strip())
            if store.status:
                self.fail(store.status)
                return
            bucket, _, rest = where.path.removeprefix("/storage/v1/b/").partition("/o")
            bucket, name = unquote(bucket), unquote(rest.removeprefix("/"))
            objects = store.objects.get(bucket)
            if objects is None or (name and name not in objects):
                self.fail(404)
            elif not name:
                self.list(bucket, sorted(objects), asked)
            elif asked.get("alt") == "media":
                self.media(*objects[name], asked)
            else:
                self.answer(200, json.dumps(store.describe(bucket, name)).encode())

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            verb, bucket, name = unquote(self.path).lstrip("/").split("/", 2)
            if verb == "put":
                store.put(bucket, name, body)
            elif verb == "delete":
                store.delete(bucket, name)
            else:
                store.status = int(name)
            answer_json, store.requests = store.requests, []
            self.answer(200, json.dumps(answer_json).encode())

        def list(self, bucket: str, names: list[str], asked: dict[str, str]) -> None:
            prefix, delimiter = asked.get("prefix", ""), asked.get("delimiter")
            items, prefixes = [], set()
            page = int(asked.get("pageToken", 0))
            for name in names:
                rest = name[len(prefix) :]
                if name.startswith(prefix) and delimiter and delimiter in rest:
                    prefixes.add(prefix + rest.partition(delimiter)[0] + delimiter)
                elif name.startswith(prefix):
                    items.append(store.describe(bucket, name))
            more, items = len(items) > page + _PAGE, items[page : page + _PAGE]
            answer_json = {"kind": "storage#objects", "items": items, "prefixes": sorted(prefixes)}
            answer_json |= {"nextPageToken": str(page + _PAGE)} if more else {}
            self.answer(200, json.dumps(answer_json).encode(), Content_Type="application/json")

        def media(self, data: bytes, generation: int, asked: dict[str, str]) -> None:
            if int(asked.get("ifGenerationMatch", generation)) != generation:
                self.fail(412)
                return
            ranged = self.headers.get("Range")
            headers = {"x_goog_generation": str(generation)}
            if ranged:
                first, _, last = ranged.removeprefix("bytes=").partition("-")
                start, stop = int(first), min(int(last or len(data)), len(data) - 1)
                headers["Content_Range"] = f"bytes {start}-{stop}/{len(data)}"
                self.answer(206, data[start : stop + 1], **headers)
            else:
                self.answer(200, data, **headers)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)  # noqa: T201
    server.serve_forever()


class GcsServer:
    """A client that controls the server. Each method returns the requests since the last call."""

    def __init__(self, url: str) -> None:
        self.url = url

    def put(self, bucket: str, name: str, data: bytes) -> list[str]:
        return self._send(f"put/{bucket}/{name}", data)

    def delete(self, bucket: str, name: str) -> list[str]:
        return self._send(f"delete/{bucket}/{name}")

    def answer_all(self, status: int) -> list[str]:
        """Answer every request with this status. If the status is 0, answer normally."""
        return self._send(f"status/all/{status}")

    def _send(self, path: str, data: bytes = b"") -> list[str]:
        request = urllib.request.Request(f"{self.url}/{quote(path)}", data, method="PUT")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return list(json.load(answer))


@contextmanager
def serve_gcs() -> Iterator[GcsServer]:
    """Run the server in another process during the block."""
    process = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield GcsServer(process.stdout.readline().strip())
    finally:
        process.kill()
        process.communicate()


if __name__ == "__main__":
    serve()
