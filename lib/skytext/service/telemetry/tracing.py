"""OpenTelemetry traces, if OpenTelemetry's environment variables configure an OTLP endpoint.

``OTEL_EXPORTER_OTLP_ENDPOINT`` (or ``…_TRACES_ENDPOINT``) is the address of the collector. If it is
not set, the tracer does nothing. Each call between processes contains a W3C ``traceparent``, which
connects the spans of several processes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

from opentelemetry import propagate, trace
from opentelemetry.trace import Span, SpanKind

_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
Carrier = dict[str, str]
"""Headers that connect the spans of two processes."""


def is_configured() -> bool:
    """Return whether traces are exported."""
    return any(os.environ.get(name) for name in _VARIABLES)


def start_tracing(process: str) -> None:
    """Export the spans of this process. If no endpoint is configured, do nothing.

    Args:
        process: ``ingress``, ``embedding``, ``search`` or ``captioning``.
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
    """Return the headers with which the next process continues the trace.

    The result is empty if traces are not exported.
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
    """Return a context manager that records its block as a span.

    Args:
        name: the name of the span.
        parent: the request headers or the `Carrier` that contain the parent span. None means the
            current span of this process.
        is_server: whether the span is for an external request.
        attributes: the attributes of the span.
    """
    if not is_configured():
        # Return early: to parse a request's headers costs more than to route the request.
        return nullcontext(trace.INVALID_SPAN)
    return trace.get_tracer("skytext.service").start_as_current_span(
        name,
        context=None if parent is None else propagate.extract(parent),
        kind=SpanKind.SERVER if is_server else SpanKind.INTERNAL,
        attributes=attributes,
    )
