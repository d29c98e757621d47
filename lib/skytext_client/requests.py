"""Requests and answers as plain values: what both clients share."""

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
"""The longest that a client waits before it asks again."""
SLOW_S = 75.0
"""Longer than a service's own limit of 60 s for describing an image and for promotions."""
_FIRST_WAIT_S = 1.0
_BUSY = (429, 503)
_NO_PROBLEM = "no-problem"
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class Call(NamedTuple):
    """One request.

    Attributes:
        method: of HTTP.
        path: below the service's address.
        options: of httpx.
        may_repeat: it changes nothing.
        min_timeout_s: that the service itself may take.
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
        ClientError: the address is none, or the key.
    """
    if not _is_address(url):
        raise ClientError(f"{url!r} is no address of a service: write https://HOST")
    if key is not None and not (key.isascii() and key.isprintable()):
        raise ClientError("the API key holds what no key holds: is it copied whole, in one line?")
    headers = {"Accept": "application/json", "User-Agent": "skytext-client"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    options: dict[str, Any] = {
        "base_url": url.rstrip("/"),
        "headers": headers,
        "timeout": timeout_s,
        # What is on this machine is behind no proxy of the environment's.
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
    """Return the body of a search; what is not asked for is left out.

    Raises:
        TypeError: a search has no field of such a name.
    """
    unknown = fields.keys() - Search.__annotations__.keys()
    if unknown:
        raise TypeError(f"a search has no {min(unknown)!r}: see the arguments of `search`")
    like = fields.get("like") or ()
    body: dict[str, Any] = {
        "k": 10,
        **fields,
        **({"text": text} if isinstance(text, str) else {"texts": list(text or ())}),
        "like": [id_of(image) for image in ([like] if isinstance(like, str | Hit) else like)],
        "positive": [_example(example) for example in fields.get("positive", ())],
        "negative": [_example(example) for example in fields.get("negative", ())],
    }
    # What is wrong, such as an empty filter, is the service's to say.
    return {name: v for name, v in body.items() if v is not None and v is not False and v != []}


def _example(example: Example) -> dict[str, str]:
    if isinstance(example, Hit):
        return {"image_id": example.image_id}
    return {"text": example} if isinstance(example, str) else dict(example)


def id_of(image: Image) -> str:
    """Return the ``image_id`` of an image that is given by it or as a hit."""
    return image if isinstance(image, str) else image.image_id


def image_call(image: Image, what: str = "", **params: int | str | None) -> Call:
    """Return the request for an image's row, or for ``/bytes`` or ``/thumbnail``."""
    table = image.table if isinstance(image, Hit) else None
    given = {k: v for k, v in {**params, "table": table}.items() if v is not None}
    return Call("GET", f"/v1/images/{quote(id_of(image), safe='')}{what}", {"params": given})


def image_search_call(image: bytes | str | Path, k: int, filter: str | None) -> Call:
    """Return the request that searches by an image of one's own.

    Raises:
        ClientError: the file cannot be read.
    """
    form = {"k": str(k)} | ({} if filter is None else {"filter": filter})
    options = {"files": {"file": upload(image)}, "data": form}
    return Call("POST", "/v1/search/image", options, min_timeout_s=SLOW_S)


def admin_call(what: str, **body: Any) -> Call:
    """Return the request that changes what is served."""
    given = {name: value for name, value in body.items() if value is not None}
    options = {"json": given} if body else {}
    return Call("POST", f"/v1/admin/{what}", options, may_repeat=False, min_timeout_s=SLOW_S)


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
    after the wait that it told, and where the connection broke off, nobody answered, or a proxy of
    Serve says that the replica is gone: a service that is started again is back within seconds.
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
        return True  # of Serve's proxy: the service's own failures are problems
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


def parsed(kind: type[A], answer: httpx.Response) -> A:
    """Return an answer as what it should be.

    Raises:
        ClientError: it is something else.
    """
    try:
        return kind.model_validate_json(answer.content)
    except ValidationError as error:
        raise _foreign(answer) from error


def image_of(answer: httpx.Response) -> bytes:
    """Return the image that is the answer.

    Raises:
        ClientError: it is none.
    """
    kind = answer.headers.get("content-type", "").lower()
    # Octets: an image of a format that no media type is known for.
    if not kind.startswith(("image/", "application/octet-stream")):
        raise _foreign(answer)
    return answer.content


def _foreign(answer: httpx.Response) -> ClientError:
    said = " ".join(answer.text.split())[:100]
    return ClientError(
        f"{answer.url} answers what no skytext service answers ({said!r}): is this its address, "
        "and is there a login page in between?"
    )


def failure(answer: httpx.Response) -> ServiceError:
    """Return what an answer that is no success means."""
    try:
        problem = answer.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        # Not of the service itself: a proxy in between.
        problem = {"type": f":{_NO_PROBLEM}", "detail": answer.text[:200]}
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
    """Return what an answer tells to wait: seconds, or until a date (RFC 9110, 10.2.3)."""
    said = answer.headers.get("retry-after", "")
    try:
        wait_s = float(said)
    except ValueError:
        wait_s = _seconds_until(said)
    return max(wait_s, 0.0) if math.isfinite(wait_s) else _FIRST_WAIT_S


def _seconds_until(date: str) -> float:
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return _FIRST_WAIT_S
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return (moment - dt.datetime.now(dt.UTC)).total_seconds()
