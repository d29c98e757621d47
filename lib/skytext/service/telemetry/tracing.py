"""OpenTelemetry traces, if an OTLP endpoint is configured by OpenTelemetry's own variables.

``OTEL_EXPORTER_OTLP_ENDPOINT`` (or ``…_TRACES_ENDPOINT``) names the collector; without it the
tracer does nothing. Each call carries a W3C ``traceparent``, which connects spans of several
processes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

from opentelemetry import propagate, trace
from opentelemetry.trace import Span, SpanKind

_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
Carrier = dict[str, str]
"""Headers that carry a trace between processes."""


def is_configured() -> bool:
    """Return whether traces are exported."""
    return any(os.environ.get(name) for name in _VARIABLES)


def start_tracing(process: str) -> None:
    """Export this process's spans; does nothing without a configured endpoint.

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
    """Return the headers for the next process to continue the trace; empty without a trace."""
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
    """Trace a block.

    Args:
        name: of the span.
        parent: headers, or a `Carrier`, of the parent span; None for the current one.
        is_server: it answers an external request.
        attributes: of the span.
    """
    if not is_configured():
        # Parsing a request's headers for a parent costs more than routing the request.
        return nullcontext(trace.INVALID_SPAN)
    return trace.get_tracer("skytext.service").start_as_current_span(
        name,
        context=None if parent is None else propagate.extract(parent),
        kind=SpanKind.SERVER if is_server else SpanKind.INTERNAL,
        attributes=attributes,
    )
