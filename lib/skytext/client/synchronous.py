"""The client for programs and notebooks that wait."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import tenacity

from skytext.client.answers import BatchAnswers, Found, FoundImage, Hit, TableInfo
from skytext.client.requests import (
    Call,
    asking_again,
    checked,
    make_options,
    path_of,
    search_body,
    unreachable,
    upload,
)


class Client:
    """Asks a service.

    Args:
        url: where it is, e.g. ``https://search.example.org``.
        key: API key; None where the service wants none.
        timeout_s: longest answer, in seconds.
        retries: how often a request is made again that the service was too busy for (429, 503),
            after the wait that it tells, or that the connection broke under.
        transport: of httpx, for tests.

    Raises:
        ClientError: the address is none.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_s: float = 30.0,
        retries: int = 3,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url = url
        self._retries = retries
        self._http = httpx.Client(**make_options(url, key, timeout_s, transport))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def search(
        self,
        text: str | Sequence[str] | None = None,
        *,
        like: str | Sequence[str] | None = None,
        positive: Sequence[str | Mapping[str, str]] = (),
        negative: Sequence[str | Mapping[str, str]] = (),
        mode: str | None = None,
        k: int = 10,
        filter: str | Mapping[str, Any] | None = None,
        cursor: str | None = None,
        group_duplicates: bool = False,
        exact: bool = False,
    ) -> Found:
        """Find the images that fit best.

        Args:
            text: what to look for, in plain words; several texts are several queries.
            like: ``image_id`` of images: more like these.
            positive: texts, or ``{"image_id": …}``, to move the query towards.
            negative: and away from.
            mode: ``dense``, ``text`` or ``hybrid``; None for the service's default.
            k: hits wanted.
            filter: a text such as ``gsd < 1``, or a typed condition.
            cursor: `Found.next_cursor` of the same search.
            group_duplicates: near-duplicates become one hit.
            exact: score every image.

        Raises:
            ServiceError: the search is wrong, or the service refuses.
            UnreachableError: the service cannot be reached.
        """
        body = search_body(
            text,
            like=like,
            positive=positive,
            negative=negative,
            mode=mode,
            k=k,
            filter=filter,
            cursor=cursor,
            group_duplicates=group_duplicates,
            exact=exact,
        )
        return Found.model_validate(self._ask(Call("POST", "/v1/search", {"json": body})).json())

    def pages(self, text: str | Sequence[str] | None = None, **search: Any) -> Iterator[Found]:
        """Yield page after page of a search, of one version of the table; see `search`."""
        found = self.search(text, **search)
        yield found
        while found.next_cursor is not None:
            found = self.search(text, **{**search, "cursor": found.next_cursor})
            yield found

    def search_batch(self, searches: Sequence[str | Mapping[str, Any]]) -> tuple[Found, ...]:
        """Answer several searches from one version; each is a text, or the body of a search."""
        bodies = [{"text": s} if isinstance(s, str) else dict(s) for s in searches]
        call = Call("POST", "/v1/search/batch", {"json": {"searches": bodies}})
        return BatchAnswers.model_validate(self._ask(call).json()).answers

    def search_image(
        self, image: bytes | str | Path, *, k: int = 10, filter: str | None = None
    ) -> Found:
        """Find images that look like one of your own, by its description."""
        form = {"k": str(k)} | ({} if filter is None else {"filter": filter})
        options = {"files": {"file": upload(image)}, "data": form}
        return Found.model_validate(self._ask(Call("POST", "/v1/search/image", options)).json())

    def image(self, image: str | Hit) -> FoundImage:
        """Return all that the table says of an image."""
        return FoundImage.model_validate(self._ask(Call("GET", path_of(image), {})).json())

    def read_image(self, image: str | Hit) -> bytes:
        """Return an image as it lies in the archive."""
        return self._ask(Call("GET", f"{path_of(image)}/bytes", {})).content

    def thumbnail(self, image: str | Hit, size_px: int = 256) -> bytes:
        """Return an image as WebP; in a notebook: ``IPython.display.Image(…)``."""
        options = {"params": {"size": size_px}}
        return self._ask(Call("GET", f"{path_of(image)}/thumbnail", options)).content

    def table(self) -> TableInfo:
        """Return what is served."""
        return TableInfo.model_validate(self._ask(Call("GET", "/v1/table", {})).json())

    def promote(self, version: int | None = None) -> int:
        """Serve a version, by default the latest; needs a key with the right to administer."""
        call = Call("POST", "/v1/admin/promote", {"json": {"version": version}}, may_repeat=False)
        return int(self._ask(call).json()["live_version"])

    def rollback(self) -> int:
        """Serve the version before; needs a key with the right to administer."""
        call = Call("POST", "/v1/admin/rollback", {}, may_repeat=False)
        return int(self._ask(call).json()["live_version"])

    def _ask(self, call: Call) -> httpx.Response:
        return tenacity.Retrying(**asking_again(call, self._retries))(self._ask_once, call)

    def _ask_once(self, call: Call) -> httpx.Response:
        try:
            return checked(self._http.request(call.method, call.path, **call.options))
        except httpx.HTTPError as error:
            raise unreachable(self._url, error) from error
