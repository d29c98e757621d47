"""Functions that build requests and read responses, used by both clients."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, urlsplit

import httpx
import tenacity
from pydantic import BaseModel, ValidationError

from skytext_client.answers import Hit
from skytext_client.errors import ClientError, ServiceError, TooBusyError, UnreachableError
from skytext_client.search_fields import Example, Image, Search

A = TypeVar("A", bound=BaseModel)

MAX_WAIT_S = 30.0
"""The maximum wait before a retry, in seconds."""
SLOW_S = 75.0
"""The minimum timeout of slow requests, in seconds. The service itself allows 60 s to describe an
image, and for a promotion."""
_FIRST_WAIT_S = 1.0
_BUSY = (429, 503)
_NO_PROBLEM = "no-problem"
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class Call(NamedTuple):
    """One request.

    Attributes:
        method: the HTTP method.
        path: the path relative to the address of the service.
        options: the options of the request for httpx.
        may_repeat: whether the request may be repeated, because it changes nothing.
        min_timeout_s: the minimum timeout, in seconds.
    """

    method: str
    path: str
    options: dict[str, Any]
    may_repeat: bool = True
    min_timeout_s: float = 0.0


def make_options(
    url: str, key: str | None, timeout_s: float, transport: Any | None
) -> dict[str, Any]:
    """Return the options of the httpx client.

    Raises:
        ClientError: the address or the key is invalid.
    """
    if not _is_address(url):
        raise ClientError(
            f"{url!r} is not a valid address of a service: write the address as https://HOST"
        )
    if key is not None and not (key.isascii() and key.isprintable()):
        raise ClientError(
            "the API key contains invalid characters: copy the key again, without line breaks"
        )
    headers = {"Accept": "application/json", "User-Agent": "skytext-client"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    options: dict[str, Any] = {
        "base_url": url.rstrip("/"),
        "headers": headers,
        "timeout": timeout_s,
        # Requests to this machine must not use the proxy in the environment variables.
        "mounts": {f"all://{host}": None for host in _LOOPBACK},
    }
    return options if transport is None else {**options, "transport": transport}


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def search_body(text: str | Sequence[str] | None, fields: Search) -> dict[str, Any]:
    """Return the body of a search request, without fields that are not set.

    Raises:
        TypeError: a field is unknown.
    """
    unknown = fields.keys() - Search.__annotations__.keys()
    if unknown:
        raise TypeError(f"unknown argument {min(unknown)!r}: see the arguments of `search`")
    like = fields.get("like") or ()
    body: dict[str, Any] = {
        "k": 10,
        **fields,
        **({"text": text} if isinstance(text, str) else {"texts": list(text or ())}),
        "like": [id_of(image) for image in ([like] if isinstance(like, str | Hit) else like)],
        "positive": [_example(example) for example in fields.get("positive", ())],
        "negative": [_example(example) for example in fields.get("negative", ())],
    }
    # Keep invalid values such as an empty filter, so that the service reports them.
    return {name: v for name, v in body.items() if v is not None and v is not False and v != []}


def _example(example: Example) -> dict[str, str]:
    if isinstance(example, Hit):
        return {"image_id": example.image_id}
    return {"text": example} if isinstance(example, str) else dict(example)


def id_of(image: Image) -> str:
    """Return the ``image_id`` of an image that is given as an id or as a hit."""
    return image if isinstance(image, str) else image.image_id


def image_call(image: Image, what: str = "", **params: int | str | None) -> Call:
    """Return the request for the row of an image, or for its ``/bytes`` or ``/thumbnail``."""
    table = image.table if isinstance(image, Hit) else None
    given = {k: v for k, v in {**params, "table": table}.items() if v is not None}
    return Call("GET", f"/v1/images/{quote(id_of(image), safe='')}{what}", {"params": given})


def image_search_call(image: bytes | str | Path, k: int, filter: str | None) -> Call:
    """Return the request for a search by an uploaded image.

    Raises:
        ClientError: the file cannot be read.
    """
    form = {"k": str(k)} | ({} if filter is None else {"filter": filter})
    options = {"files": {"file": upload(image)}, "data": form}
    return Call("POST", "/v1/search/image", options, min_timeout_s=SLOW_S)


def admin_call(what: str, **body: Any) -> Call:
    """Return a request that changes the live version."""
    given = {name: value for name, value in body.items() if value is not None}
    options = {"json": given} if body else {}
    return Call("POST", f"/v1/admin/{what}", options, may_repeat=False, min_timeout_s=SLOW_S)


def upload(image: bytes | str | Path) -> bytes:
    """Return the bytes of an image that is given as bytes or as the path of a file.

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
    """Return the retry rules as arguments of tenacity's ``Retrying``.

    A request that changes something is sent only once. Other requests are repeated after 429 and
    503, after a connection error, and if Ray Serve's proxy reports a lost replica. After 429 and
    503, the first wait is the time in ``Retry-After``. A restarted service is available again
    within seconds.
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
    if isinstance(error, ServiceError) and (error.status, error.code) == (500, _NO_PROBLEM):
        return True  # from Ray Serve's proxy, because the service always sends problem details
    return isinstance(error, TooBusyError)


def _wait_s(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    first_s = error.retry_after_s if isinstance(error, TooBusyError) else _FIRST_WAIT_S
    return min(first_s * 2.0 ** (state.attempt_number - 1), MAX_WAIT_S)


def checked(answer: httpx.Response) -> httpx.Response:
    """Return the response if it is successful.

    Raises:
        ServiceError: the response is not successful.
    """
    if answer.is_success:
        return answer
    raise failure(answer)


def parsed(kind: type[A], answer: httpx.Response) -> A:
    """Parse the body of a response.

    Raises:
        ClientError: the body does not have the expected form.
    """
    try:
        return kind.model_validate_json(answer.content)
    except ValidationError as error:
        raise _foreign(answer) from error


def image_of(answer: httpx.Response) -> bytes:
    """Return the image in a response.

    Raises:
        ClientError: the response is not an image.
    """
    kind = answer.headers.get("content-type", "").lower()
    # The service sends application/octet-stream if the image format has no known media type.
    if not kind.startswith(("image/", "application/octet-stream")):
        raise _foreign(answer)
    return answer.content


def _foreign(answer: httpx.Response) -> ClientError:
    text = " ".join(answer.text.split())[:100]
    return ClientError(
        f"the response of {answer.url} is not from a skytext service ({text!r}): check the "
        "address, and check whether a proxy returned a login page"
    )


def failure(answer: httpx.Response) -> ServiceError:
    """Return the error of a response that is not successful."""
    try:
        problem = answer.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        # The response is from a proxy, because the service sends its errors as JSON objects.
        problem = {"type": f":{_NO_PROBLEM}", "detail": answer.text[:200]}
    if answer.status_code in _BUSY:
        return TooBusyError(answer.status_code, problem, _retry_after(answer))
    return ServiceError(answer.status_code, problem)


def unreachable(url: str, error: httpx.HTTPError) -> UnreachableError:
    """Return the error of a failed connection."""
    # Do not retry after a timeout, because the service would probably need the same time again.
    may_pass = isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError)
    return UnreachableError(
        f"cannot reach {url} ({error or type(error).__name__}): check the address, and whether the "
        "service is running",
        may_pass=may_pass,
    )


def _retry_after(answer: httpx.Response) -> float:
    """Return the time to wait, in seconds, from ``Retry-After``.

    The header contains a number of seconds or a date (RFC 9110, 10.2.3).
    """
    text = answer.headers.get("retry-after", "")
    try:
        wait_s = float(text)
    except ValueError:
        wait_s = _seconds_until(text)
    return max(wait_s, 0.0) if math.isfinite(wait_s) else _FIRST_WAIT_S


def _seconds_until(date: str) -> float:
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return _FIRST_WAIT_S
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return (moment - dt.datetime.now(dt.UTC)).total_seconds()
