from __future__ import annotations

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from skytext.service.telemetry.tracing import carrier, is_configured, span

_PROGRAM = """
import sys
from opentelemetry import trace
from skytext.service.telemetry.tracing import carrier, span, start_tracing
from tests.service.app import client

start_tracing("ingress")
with client(sys.argv[1]) as http:
    parent = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    answer = http.post("/v1/search", json={"text": "secret words"}, headers={"traceparent": parent})
    assert answer.status_code == 200, answer.text
trace.get_tracer_provider().shutdown()
"""


def test_without_an_endpoint_nothing_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert not is_configured()
    with span("a", k=1) as opened:
        assert not opened.is_recording()
        assert carrier() == {}


def test_spans_go_to_the_endpoint_and_belong_to_the_callers_trace(served: Path) -> None:
    """Run the service in a separate process, because a process can set up a tracer only once."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    bodies: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            import os

            root = Path(__file__).parents[3]
            environment = {
                **os.environ,
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
                "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
                "PYTHONPATH": f"{root / 'lib'}:{root}",
                "NO_PROXY": "127.0.0.1",
            }
            done = subprocess.run(
                [sys.executable, "-c", _PROGRAM, str(served)],
                env=environment, capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
        finally:
            server.shutdown()
            thread.join()
    spans = {}
    for body in bodies:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                spans |= {found.name: found for found in scope.spans}
    assert set(spans) == {"POST /v1/search", "embed", "search"}
    assert {found.trace_id.hex() for found in spans.values()} == {"a" * 32}
    assert spans["POST /v1/search"].parent_span_id.hex() == "b" * 16
    assert spans["search"].parent_span_id == spans["POST /v1/search"].span_id
    assert b"secret" not in b"".join(bodies)
