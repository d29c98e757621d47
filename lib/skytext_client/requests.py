"""Functions that build requests and parse responses. Both clients use these functions."""

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
"""The maximum time to wait before a retry, in seconds."""
SLOW_S = 75.0
"""The minimum timeout for slow requests, in seconds. By default, the service stops a search by an
uploaded image after 60 s, and a promotion or a rollback after 60 s."""
_FIRST_WAIT_S = 1.0
_BUSY = (429, 503)
_NO_PROBLEM = "no-problem"
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class Call(NamedTuple):
    """One request.

    Attributes:
        method: the HTTP method.
        path: the path, relative to the address of the service.
        options: more arguments for the method ``request`` of the httpx client.
        may_repeat: true if the request may be repeated because it changes nothing.
        min_timeout_s: the minimum timeout of the request, in seconds.
    """

    method: str
    path: str
    options: dict[str, Any]
    may_repeat: bool = True
    min_timeout_s: float = 0.0


def make_options(
    url: str, key: str | None, timeout_s: float, transport: Any | None
) -> dict[str, Any]:
    """Return the arguments to create the httpx client.

    Raises:
        ClientError: the address or the key is invalid.
    """
    if not _is_address(url):
        raise ClientError(
            f"{url!r} is not a valid address of a service: give an address of the form https://HOST"
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
        # The environment variables may name a proxy. Do not use this proxy for requests to this
        # machine.
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
    """Return the body of a search request. Omit fields that are not set.

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
    # Do not omit invalid values such as an empty filter. The service reports them as errors.
    return {name: v for name, v in body.items() if v is not None and v is not False and v != []}


def _example(example: Example) -> dict[str, str]:
    if isinstance(example, Hit):
        return {"image_id": example.image_id}
    return {"text": example} if isinstance(example, str) else dict(example)


def id_of(image: Image) -> str:
    """Return the ``image_id`` of an image that is given as an id or as a hit."""
    return image if isinstance(image, str) else image.image_id


def image_call(image: Image, what: str = "", **params: int | str | None) -> Call:
    """Return a request for an image.

    Args:
        image: the image.
        what: ``/bytes`` for the original image, ``/thumbnail`` for a thumbnail, or an empty string
            for the row of the image.
        params: the parameters of the query string. A parameter with the value None is omitted.
    """
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
    """Return the rules for retries, as arguments of the class ``Retrying`` in tenacity.

    A request that changes something is sent only once. Any other request is repeated after the
    status 429 or 503, after a connection error, or if Ray Serve's proxy reports a lost replica.
    After 429 or 503, the first waiting time is the time in ``Retry-After``. Later waiting times are
    longer.
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
        return True  # the response is from Ray Serve's proxy, so a replica was lost
    return isinstance(error, TooBusyError)


def _wait_s(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    first_s = error.retry_after_s if isinstance(error, TooBusyError) else _FIRST_WAIT_S
    return min(first_s * 2.0 ** (state.attempt_number - 1), MAX_WAIT_S)


def checked(answer: httpx.Response) -> httpx.Response:
    """Return the response if its status is a success.

    Raises:
        ServiceError: the status is an error.
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
    # If the service does not know the image format, it sends application/octet-stream.
    if not kind.startswith(("image/", "application/octet-stream")):
        raise _foreign(answer)
    return answer.content


def _foreign(answer: httpx.Response) -> ClientError:
    text = " ".join(answer.text.split())[:100]
    return ClientError(
        f"the response from {answer.url} is not from a skytext service. It begins with {text!r}. "
        "Check the address, and check whether a proxy returned a login page"
    )


def failure(answer: httpx.Response) -> ServiceError:
    """Return the error that an error response describes."""
    try:
        problem = answer.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        # The response is from a proxy, because the service describes each error as a JSON object.
        problem = {"type": f":{_NO_PROBLEM}", "detail": answer.text[:200]}
    if answer.status_code in _BUSY:
        return TooBusyError(answer.status_code, problem, _retry_after(answer))
    return ServiceError(answer.status_code, problem)


def unreachable(url: str, error: httpx.HTTPError) -> UnreachableError:
    """Return the error to raise after httpx could not get a response."""
    # Do not retry after a timeout, because a second attempt would probably also time out.
    may_pass = isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError)
    return UnreachableError(
        f"cannot reach {url} ({error or type(error).__name__}): check the address, and check "
        "whether the service is running",
        may_pass=may_pass,
    )


def _retry_after(answer: httpx.Response) -> float:
    """Return the time to wait, in seconds. It is read from the header ``Retry-After``.

    This header contains a number of seconds or a date (RFC 9110, 10.2.3).
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
