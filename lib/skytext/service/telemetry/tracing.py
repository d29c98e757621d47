"""OpenTelemetry traces.

The environment variable ``OTEL_EXPORTER_OTLP_ENDPOINT`` (or ``…_TRACES_ENDPOINT``) is the address
of the collector. If neither variable is set, no spans are recorded. Each call between processes
contains a W3C ``traceparent``, so that spans of several processes belong to the same trace.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

from opentelemetry import propagate, trace
from opentelemetry.trace import Span, SpanKind

_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
Carrier = dict[str, str]
"""The trace context as headers. It connects the spans of two processes."""


def is_configured() -> bool:
    """Return true if the environment contains the address of a collector."""
    return any(os.environ.get(name) for name in _VARIABLES)


def start_tracing(process: str) -> None:
    """Export the spans of this process. If no endpoint is configured, do nothing.

    Args:
        process: the kind of the process: ``ingress``, ``embedding``, ``search`` or ``captioning``.
    """
    if not is_configured():
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = os.environ.get("OTEL_SERVICE_NAME", "skytext")
    resource = Resource.create({"service.name": name, "service.instance.id": process})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def carrier() -> Carrier:
    """Return the headers that must be sent to the next process to continue the trace.

    If no collector is configured, the result is empty.
    """
    found: Carrier = {}
    if is_configured():
        propagate.inject(found)
    return found


def span(
    name: str,
    parent: Mapping[str, str] | None = None,
    *,
    is_server: bool = False,
    **attributes: str | int | float,
) -> AbstractContextManager[Span]:
    """Return a context manager. The block of the context manager is recorded as a span.

    Args:
        name: the name of the span.
        parent: the request headers or the `Carrier` with the context of the parent span. None
            means that the parent is the current span of this process.
        is_server: true if the span is for a request from an HTTP client.
        attributes: the attributes of the span.
    """
    if not is_configured():
        # Return here, because parsing the headers takes longer than routing the request.
        return nullcontext(trace.INVALID_SPAN)
    return trace.get_tracer("skytext.service").start_as_current_span(
        name,
        context=None if parent is None else propagate.extract(parent),
        kind=SpanKind.SERVER if is_server else SpanKind.INTERNAL,
        attributes=attributes,
    )
