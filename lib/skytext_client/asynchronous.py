"""The client for asynchronous programs.

`skytext_client.synchronous` is generated from `skytext_client.asynchronous`: ``make client``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

import httpx
import tenacity

from skytext_client.answers import (
    BatchAnswers,
    Found,
    FoundImage,
    Promotion,
    TableInfo,
)
from skytext_client.requests import (
    Call,
    admin_call,
    asking_again,
    checked,
    image_call,
    image_of,
    image_search_call,
    make_options,
    parsed,
    search_body,
    unreachable,
)
from skytext_client.search_fields import Image, Search


class AsyncClient:
    """A client of one service.

    Args:
        url: its address, e.g. ``https://search.example.org``.
        key: API key; None if the service needs none.
        timeout_s: timeout in seconds; for searches by an uploaded image and for promotions at
            least 75.
        retries: number of retries if the service is too busy (429, 503; after its Retry-After) or
            the connection breaks.
        transport: of httpx, for tests.

    Raises:
        ClientError: invalid address or key.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_s: float = 30.0,
        retries: int = 3,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._retries = retries
        self._http = httpx.AsyncClient(**make_options(url, key, timeout_s, transport))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def search(
        self, text: str | Sequence[str] | None = None, **search: Unpack[Search]
    ) -> Found:
        """Find the images that fit best.

        Args:
            text: the query in plain words; several texts are several queries.
            like: hits, or ``image_id`` of images, to find similar images.
            combine: how several queries give one result, ``max`` or ``mean``; None for ``max``.
            positive: texts, hits, or ``{"image_id": …}``, to move the query towards.
            negative: the same, to move the query away from.
            mode: ``dense``, ``text``, ``hybrid``, ``image`` or ``image+dense``; None for the
                service's default.
            k: number of hits, by default 10.
            filter: CQL2 text such as ``gsd < 1``, or CQL2 JSON.
            intersects: a GeoJSON geometry that images must intersect.
            cursor: `Found.next_cursor` of the same search.
            min_score: the least score of a hit.
            version: `Found.table_version` of an earlier search; None for the live one.
            group_duplicates: near-duplicates become one hit.
            exact: score every image.

        Raises:
            TypeError: an unknown argument.
            ServiceError: the request is invalid, or the service refuses it.
            UnreachableError: the service cannot be reached.
        """
        body = search_body(text, search)
        return parsed(Found, await self._ask(Call("POST", "/v1/search", {"json": body})))

    async def pages(
        self, text: str | Sequence[str] | None = None, **search: Unpack[Search]
    ) -> AsyncIterator[Found]:
        """Yield the pages of a search, all of one version of the table; see `search`."""
        found = await self.search(text, **search)
        yield found
        while found.next_cursor is not None:
            search["cursor"] = found.next_cursor
            found = await self.search(text, **search)
            yield found

    async def search_batch(self, searches: Sequence[str | Mapping[str, Any]]) -> tuple[Found, ...]:
        """Run several searches in one version; each is a text, or the body of a search."""
        bodies = [{"text": s} if isinstance(s, str) else dict(s) for s in searches]
        call = Call("POST", "/v1/search/batch", {"json": {"searches": bodies}})
        return parsed(BatchAnswers, await self._ask(call)).answers

    async def search_image(
        self, image: bytes | str | Path, *, k: int = 10, filter: str | None = None
    ) -> Found:
        """Find images that look like an uploaded image, by its description."""
        return parsed(Found, await self._ask(image_search_call(image, k, filter)))

    async def image(self, image: Image, *, version: int | str | None = None) -> FoundImage:
        """Return an image's row, of the live version or of the given one."""
        return parsed(FoundImage, await self._ask(image_call(image, version=version)))

    async def read_image(self, image: Image, *, version: int | str | None = None) -> bytes:
        """Return an image's original bytes from the archive."""
        return image_of(await self._ask(image_call(image, "/bytes", version=version)))

    async def thumbnail(
        self, image: Image, size_px: int = 256, *, version: int | str | None = None
    ) -> bytes:
        """Return an image as WebP; in a notebook: ``IPython.display.Image(…)``."""
        call = image_call(image, "/thumbnail", size=size_px, version=version)
        return image_of(await self._ask(call))

    async def table(self) -> TableInfo:
        """Return the facts about the served table."""
        return parsed(TableInfo, await self._ask(Call("GET", "/v1/table", {})))

    async def promote(self, version: int | None = None, *, table: str | None = None) -> int:
        """Make a version live, by default the latest; needs an admin key.

        Args:
            version: version of the table.
            table: name of the table (`TableInfo.tables`); required if the service has several.
        """
        call = admin_call("promote", version=version, table=table)
        return parsed(Promotion, await self._ask(call)).live_version

    async def rollback(self, *, table: str | None = None) -> int:
        """Make the previous version live again; needs an admin key.

        Args:
            table: see `promote`.
        """
        return parsed(Promotion, await self._ask(admin_call("rollback", table=table))).live_version

    async def _ask(self, call: Call) -> httpx.Response:
        again = tenacity.AsyncRetrying(**asking_again(call, self._retries))
        return await again(self._ask_once, call)

    async def _ask_once(self, call: Call) -> httpx.Response:
        timeout_s = max(self._timeout_s, call.min_timeout_s)
        try:
            return checked(
                await self._http.request(call.method, call.path, timeout=timeout_s, **call.options)
            )
        except httpx.HTTPError as error:
            raise unreachable(self._url, error) from error
