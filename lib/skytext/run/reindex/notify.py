"""Notify other programs that a run has ended, by a webhook and by a command.

The webhook and the command receive the same JSON object. If the environment contains a secret, the
request to the webhook is signed with HMAC-SHA256. A failed delivery is repeated for a limited time.
The repeated delivery has the same delivery id.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import shlex
import subprocess
import time
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_delay
from tenacity.wait import wait_random_exponential

from skytext.config.reindex import ReindexConfig
from skytext.errors import JobError
from skytext.run.reindex.report.facts import RunFacts

SECRET = "SKYTEXT_WEBHOOK_SECRET"
"""The environment variable that contains the secret. Requests to the webhook are signed with it."""
_TRY_S = 10.0
_MOST_IMAGES = 100
_AGAIN = {408, 425, 429, 500, 502, 503, 504}


class NotifyError(JobError):
    """The run has ended, but a notification was not delivered.

    Attributes:
        summary: the result of the run; None if unknown.
    """

    summary: Any = None


class _NotYetError(Exception):
    """The delivery failed, but a repeated delivery may succeed."""


def notify(facts: RunFacts, report: str) -> None:
    """Call the configured webhook, and run the configured command.

    Args:
        facts: the facts about the run.
        report: address of the run's report.

    Raises:
        NotifyError: the webhook or the command failed. If the webhook failed, the command was still
            run.
    """
    settings = facts.config.reindex
    body = json.dumps(message(facts, report), ensure_ascii=False).encode()
    problems = []
    for send in (_call_webhook, _run_command):
        try:
            send(settings, body)
        except NotifyError as error:
            problems.append(str(error))
    if problems:
        raise NotifyError("; ".join(problems))


def message(facts: RunFacts, report: str) -> dict[str, Any]:
    """Return the notification about a run as a JSON object."""
    runs, summary = facts.runs.values(), facts.summary
    return {
        "event": f"reindex.{facts.outcome}",
        "delivery": uuid.uuid4().hex,
        "table": facts.location.uri,
        "started_at": facts.started_at.isoformat(),
        "duration_s": summary.get("duration_s"),
        "problem": facts.problem,
        "num_described": sum(run["num_captioned"] for run in runs),
        "num_failed": sum(run["num_newly_failed"] for run in runs),
        "num_embedded": sum(one["num_embedded"] for one in facts.vectors),
        "num_withdrawn": summary.get("num_withdrawn", 0),
        "live_version": summary.get("live_version"),
        "was_promoted": summary.get("was_promoted", False),
        "gate": summary.get("gate", []),
        "report": report,
        "matches": [_matches(one.to_json(), geojson) for one, geojson in facts.matches],
    }


def _matches(report: dict[str, Any], geojson: bytes) -> dict[str, Any]:
    """Return a match report as a JSON object, with the features of the first matches."""
    features = json.loads(geojson)["features"][:_MOST_IMAGES]
    del report["path"]
    return report | {"features": features}


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Return the signature of a webhook: ``sha256=`` and a hexadecimal HMAC-SHA256.

    Args:
        secret: the shared secret.
        timestamp: value of the header ``X-Skytext-Timestamp``, in seconds since 1970.
        body: body of the request. The signed bytes are the timestamp, a full stop, and the body.
    """
    signed = timestamp.encode() + b"." + body
    return f"sha256={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"


def _call_webhook(settings: ReindexConfig, body: bytes) -> None:
    if settings.webhook is None:
        return
    url, secret = settings.webhook, os.environ.get(SECRET)

    def post() -> None:
        timestamp = str(int(time.time()))
        headers = {"Content-Type": "application/json", "X-Skytext-Timestamp": timestamp}
        if secret:
            headers["X-Skytext-Signature"] = signature(secret, timestamp, body)
        try:
            answer = httpx.post(url, content=body, headers=headers, timeout=_TRY_S)
        except httpx.InvalidURL as error:
            raise NotifyError(f"{_named(url)} has an invalid address: {error}") from error
        except httpx.TransportError as error:
            raise _NotYetError(str(error) or type(error).__name__) from error
        if answer.status_code in _AGAIN:
            raise _NotYetError(f"HTTP status {answer.status_code}")
        if not answer.is_success:
            raise NotifyError(f"{_named(url)} responded with HTTP status {answer.status_code}")

    _try(post, settings.notify_timeout_s, _named(url))


def _named(url: str) -> str:
    # The path and the query of the URL may contain secrets, so the message contains only the host.
    try:
        host = urlsplit(url).hostname
    except ValueError:
        host = "an unknown host"
    return f"the webhook at {host} (reindex.webhook)"


def _run_command(settings: ReindexConfig, body: bytes) -> None:
    if settings.command is None:
        return
    words = shlex.split(settings.command)
    name = f"the command {words[0]} (reindex.command)"
    end = time.monotonic() + settings.notify_timeout_s

    def call() -> None:
        try:
            left = max(end - time.monotonic(), 1.0)
            done = subprocess.run(words, input=body, capture_output=True, timeout=left, check=False)
        except subprocess.TimeoutExpired as error:
            raise _NotYetError("the command did not end in time") from error
        except OSError as error:
            raise NotifyError(f"{name} cannot be run: {error.strerror or error}") from error
        if done.returncode:
            output = " ".join(done.stderr.decode(errors="replace").split())[-300:]
            raise _NotYetError(f"exit status {done.returncode}{f': {output}' if output else ''}")

    _try(call, settings.notify_timeout_s, name)


def _try(call: Callable[[], None], limit_s: float, name: str) -> None:
    """Repeat a call until it succeeds or the time limit is reached.

    Raises:
        NotifyError: the call did not succeed within the time limit.
    """
    again = Retrying(
        retry=retry_if_exception_type(_NotYetError),
        wait=wait_random_exponential(multiplier=0.5, max=10),
        stop=stop_after_delay(limit_s),
    )
    try:
        again(call)
    except RetryError as error:
        last = error.last_attempt.exception()
        tries = error.last_attempt.attempt_number
        raise NotifyError(
            f"{name} could not be notified within {limit_s:g} s ({tries} attempts): {last}"
        ) from error
