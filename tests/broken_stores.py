"""Stores for `tests.faulty_proxy`. Each store answers every request, but breaks one rule."""

from __future__ import annotations

import datetime as dt
import re
import time
from dataclasses import replace
from email.utils import format_datetime, parsedate_to_datetime

from tests.faulty_proxy import Answer, Request, Send

_CONDITION = "If-None-Match"
_ENTRY = re.compile(rb"<Contents>.*?</Contents>", re.DOTALL)


def ignores_conditions(request: Request, send: Send) -> Answer:
    """Overwrite the object, and ignore the condition of the PUT request."""
    return send(request.without(_CONDITION) if request.method == "PUT" else request)


def looks_before_it_writes(request: Request, send: Send) -> Answer:
    """Check the condition of a PUT request, and then write the object.

    If two conditional PUT requests are concurrent, both may succeed.
    """
    if request.method != "PUT" or request.header(_CONDITION) is None:
        return send(request)
    unconditional = request.without(_CONDITION)
    look = replace(request.without("Content-Length"), method="HEAD", body=None)
    is_there = send(look.without(_CONDITION)).status == 200
    time.sleep(0.02)
    return send(request if is_there else unconditional)


class RemembersReads:
    """Answers a repeated read with the first answer.

    Writes and listings are forwarded to the store.
    """

    def __init__(self) -> None:
        self._answers: dict[str, Answer] = {}

    def __call__(self, request: Request, send: Send) -> Answer:
        """Answer a request."""
        if request.method != "GET" or _is_listing(request):
            return send(request)
        answer = self._answers.get(request.path) or send(request)
        if answer.status == 200:
            self._answers[request.path] = answer
        return answer


def lists_late(request: Request, send: Send) -> Answer:
    """Omit the last object of each listing."""
    answer = send(request)
    entries = _ENTRY.findall(answer.body)
    if not _is_listing(request) or not entries:
        return answer
    return replace(answer, body=answer.body.replace(entries[-1], b""))


def lists_backwards(request: Request, send: Send) -> Answer:
    """List the keys in reverse order."""
    answer = send(request)
    entries = _ENTRY.findall(answer.body)
    if not _is_listing(request) or not entries:
        return answer
    first = answer.body.index(entries[0])
    rest = _ENTRY.sub(b"", answer.body)
    return replace(answer, body=rest[:first] + b"".join(reversed(entries)) + rest[first:])


def is_an_hour_ahead(request: Request, send: Send) -> Answer:
    """Report the times of a clock that is one hour ahead."""
    answer = send(request)
    headers = {
        name: format_datetime(parsedate_to_datetime(value) + dt.timedelta(hours=1), usegmt=True)
        if name.lower() in ("date", "last-modified")
        else value
        for name, value in answer.headers.items()
    }
    return replace(answer, headers=headers)


def _is_listing(request: Request) -> bool:
    return request.method == "GET" and "list-type=2" in request.path
