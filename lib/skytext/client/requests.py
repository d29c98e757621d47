"""Requests and answers as plain values: what both clients share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import tenacity

from skytext.client.answers import Hit
from skytext.client.errors import (
    ClientError,
    ServiceError,
    TooBusyError,
    UnreachableError,
)

MAX_WAIT_S = 30.0
"""The longest that a client waits before it asks again."""
_FIRST_WAIT_S = 1.0
_BUSY = (429, 503)


class Call(NamedTuple):
    """One request.

    Attributes:
        method: of HTTP.
        path: below the service's address.
        options: of httpx.
        may_repeat: it changes nothing.
    """

    method: str
    path: str
    options: dict[str, Any]
    may_repeat: bool = True


def make_options(
    url: str, key: str | None, timeout_s: float, transport: Any | None
) -> dict[str, Any]:
    """Return the options of the httpx client.

    Raises:
        ClientError: the address is none.
    """
    if not url.startswith(("http://", "https://")):
        raise ClientError(f"{url!r} is no address of a service: write https://HOST")
    headers = {"Accept": "application/json", "User-Agent": "skytext-client"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    options: dict[str, Any] = {
        "base_url": url.rstrip("/"),
        "headers": headers,
        "timeout": timeout_s,
    }
    return options if transport is None else {**options, "transport": transport}


def search_body(
    text: str | Sequence[str] | None,
    *,
    like: str | Sequence[str] | None,
    positive: Sequence[str | Mapping[str, str]],
    negative: Sequence[str | Mapping[str, str]],
    mode: str | None,
    k: int,
    filter: str | Mapping[str, Any] | None,
    cursor: str | None,
    group_duplicates: bool,
    exact: bool,
) -> dict[str, Any]:
    """Return the body of a search; what is not asked for is left out."""
    texts = {"text": text} if isinstance(text, str) else {"texts": list(text or ())}
    body: dict[str, Any] = {
        **texts,
        "like": [like] if isinstance(like, str) else list(like or ()),
        "positive": [_example(example) for example in positive],
        "negative": [_example(example) for example in negative],
        "mode": mode,
        "filter": filter,
        "cursor": cursor,
        "group_duplicates": group_duplicates,
        "exact": exact,
    }
    return {"k": k, **{name: value for name, value in body.items() if value}}


def _example(example: str | Mapping[str, str]) -> dict[str, str]:
    return {"text": example} if isinstance(example, str) else dict(example)


def path_of(image: str | Hit) -> str:
    """Return the path of an image, given as a hit or by its id."""
    image_id = image if isinstance(image, str) else image.image_id
    return f"/v1/images/{quote(image_id, safe='')}"


def upload(image: bytes | str | Path) -> bytes:
    """Return the bytes of an image given as itself or as a file.

    Raises:
        ClientError: the file cannot be read.
    """
    if isinstance(image, bytes):
        return image
    try:
        return Path(image).read_bytes()
    except OSError as error:
        raise ClientError(f"cannot read {image}: {error.strerror}") from error


def asking_again(call: Call, retries: int) -> dict[str, Any]:
    """Return when and how often to ask again, as arguments of tenacity's ``Retrying``.

    What changes something is asked for once. Again is asked where the service told so (429, 503),
    after the wait that it told, and where the connection broke off or nobody answered: a service
    that is started again is back within seconds.
    """
    return {
        "retry": tenacity.retry_if_exception(lambda error: call.may_repeat and _may_pass(error)),
        "stop": tenacity.stop_after_attempt(retries + 1),
        "wait": _wait_s,
        "reraise": True,
    }


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, UnreachableError):
        return error.may_pass
    return isinstance(error, TooBusyError)


def _wait_s(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    first_s = error.retry_after_s if isinstance(error, TooBusyError) else _FIRST_WAIT_S
    return min(first_s * 2.0 ** (state.attempt_number - 1), MAX_WAIT_S)


def checked(answer: httpx.Response) -> httpx.Response:
    """Return an answer that is a success.

    Raises:
        ServiceError: it is none.
    """
    if answer.is_success:
        return answer
    raise failure(answer)


def failure(answer: httpx.Response) -> ServiceError:
    """Return what an answer that is no success means."""
    try:
        problem = answer.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        # Not of the service itself: a proxy in between.
        problem = {"type": ":no-problem", "detail": answer.text[:200]}
    if answer.status_code in _BUSY:
        return TooBusyError(answer.status_code, problem, _retry_after(answer))
    return ServiceError(answer.status_code, problem)


def unreachable(url: str, error: httpx.HTTPError) -> UnreachableError:
    """Return what a failed connection means."""
    # An answer that did not come in time took the service as long: it is not asked again.
    may_pass = isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError)
    return UnreachableError(
        f"cannot reach {url}: {error or type(error).__name__}", may_pass=may_pass
    )


def _retry_after(answer: httpx.Response) -> float:
    try:
        return max(float(answer.headers.get("retry-after", "1")), 0.0)
    except ValueError:  # a date: nobody of ours sends one
        return 1.0
