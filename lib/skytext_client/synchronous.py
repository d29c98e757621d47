"""The client for programs and notebooks.

The module `skytext_client.synchronous` is generated from the module `skytext_client.asynchronous`.
To generate it, run: ``make client``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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


class Client:
    """A client of one service.

    Args:
        url: the address of the service, e.g. ``https://search.example.org``.
        key: the API key. None if the service requires no key.
        timeout_s: the timeout of each request, in seconds. Searches by an uploaded image,
            promotions and rollbacks have a timeout of at least 75 s.
        retries: the maximum number of retries for each request. A request is retried if the service
            is overloaded (status 429 or 503) or if the connection breaks. If the response contains
            ``Retry-After``, the client waits at least that time before a retry, but at most 30 s.
        transport: an httpx transport. Tests use this parameter.

    Raises:
        ClientError: the address or the key is invalid.
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
        self._timeout_s = timeout_s
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

    def search(self, text: str | Sequence[str] | None = None, **search: Unpack[Search]) -> Found:
        """Find the images that match the query best.

        Args:
            text: the query in plain words. If there are several texts, each text is a query.
            like: one or more images. Each of them is a hit or an ``image_id``. The search finds
                images that are similar to these images.
            combine: how the scores of several queries are combined: ``max`` or ``mean``. None means
                ``max``.
            positive: examples. The query is moved towards these examples. Each example is a text, a
                hit, ``{"text": …}`` or ``{"image_id": …}``.
            negative: examples. The query is moved away from these examples. Each example has one of
                the forms that ``positive`` lists.
            mode: the search mode: ``dense``, ``text``, ``hybrid``, ``image`` or ``image+dense``.
                None means the default mode of the service.
            k: the maximum number of hits. The default is 10.
            filter: a filter as CQL2 text, such as ``gsd < 1``, or as CQL2 JSON. The search finds
                only images that match the filter.
            intersects: a GeoJSON geometry. The search finds only images that intersect this
                geometry.
            cursor: the value of `Found.next_cursor` in the previous page of the same search. With
                this cursor, the search returns the next page.
            min_score: the minimum score of a hit.
            version: the version to search. This is the value of `Found.table_version` in an earlier
                result. None means the live version.
            group_duplicates: true if near-duplicates must be returned as one hit.
            exact: true if every image must be scored. False if an approximate index may be used.

        Raises:
            TypeError: an argument is unknown.
            ServiceError: the request is invalid, or the service refused or failed to process it.
            ClientError: the response is not from a skytext service.
            UnreachableError: the service cannot be reached.
        """
        body = search_body(text, search)
        return parsed(Found, self._ask(Call("POST", "/v1/search", {"json": body})))

    def pages(
        self, text: str | Sequence[str] | None = None, **search: Unpack[Search]
    ) -> Iterator[Found]:
        """Yield all pages of a search. All pages are read from one version of the table.

        The arguments and the errors are those of `search`.
        """
        found = self.search(text, **search)
        yield found
        while found.next_cursor is not None:
            search["cursor"] = found.next_cursor
            found = self.search(text, **search)
            yield found

    def search_batch(self, searches: Sequence[str | Mapping[str, Any]]) -> tuple[Found, ...]:
        """Run several searches, and return their results in the same order.

        All searches that name no version run in one version of the table.

        Args:
            searches: the searches. Each of them is a text, or the JSON body of a search request.
        """
        bodies = [{"text": s} if isinstance(s, str) else dict(s) for s in searches]
        call = Call("POST", "/v1/search/batch", {"json": {"searches": bodies}})
        return parsed(BatchAnswers, self._ask(call)).answers

    def search_image(
        self, image: bytes | str | Path, *, k: int = 10, filter: str | None = None
    ) -> Found:
        """Upload an image, and find similar images.

        The service describes the uploaded image, and searches with the descriptions.

        Args:
            image: the encoded image, or the path of an image file.
            k: the maximum number of hits.
            filter: a filter as CQL2 text. The search finds only images that match the filter.

        Raises:
            ClientError: the file cannot be read.
            ServiceError: the service has no captioner (501), or refused the request.
        """
        return parsed(Found, self._ask(image_search_call(image, k, filter)))

    def image(self, image: Image, *, version: int | str | None = None) -> FoundImage:
        """Return the row of an image.

        Args:
            image: the image.
            version: the version to read. None means the live version.
        """
        return parsed(FoundImage, self._ask(image_call(image, version=version)))

    def read_image(self, image: Image, *, version: int | str | None = None) -> bytes:
        """Return the original bytes of an image. The service reads them from the archive."""
        return image_of(self._ask(image_call(image, "/bytes", version=version)))

    def thumbnail(
        self, image: Image, size_px: int = 256, *, version: int | str | None = None
    ) -> bytes:
        """Return a thumbnail of an image, as the bytes of a WebP file.

        In a notebook, you can show the result with ``IPython.display.Image``.

        Args:
            image: the image.
            size_px: the maximum length of the longer side, in pixels: 128, 256, 512 or 1024.
            version: the version to read. None means the live version.
        """
        call = image_call(image, "/thumbnail", size=size_px, version=version)
        return image_of(self._ask(call))

    def table(self) -> TableInfo:
        """Return facts about the served tables."""
        return parsed(TableInfo, self._ask(Call("GET", "/v1/table", {})))

    def promote(self, version: int | None = None, *, table: str | None = None) -> int:
        """Make a version of a table live, and return the number of this version.

        This needs an API key with the permission admin.

        Args:
            version: the version of the table. None means the latest version.
            table: the name of the table, as in `TableInfo.tables`. The name is required if the
                service has several tables.
        """
        call = admin_call("promote", version=version, table=table)
        return parsed(Promotion, self._ask(call)).live_version

    def rollback(self, *, table: str | None = None) -> int:
        """Make the previous version live again, and return the number of this version.

        This needs an API key with the permission admin.

        Args:
            table: the name of the table. The name is required if the service has several tables.
        """
        return parsed(Promotion, self._ask(admin_call("rollback", table=table))).live_version

    def _ask(self, call: Call) -> httpx.Response:
        again = tenacity.Retrying(**asking_again(call, self._retries))
        return again(self._ask_once, call)

    def _ask_once(self, call: Call) -> httpx.Response:
        timeout_s = max(self._timeout_s, call.min_timeout_s)
        try:
            return checked(
                self._http.request(call.method, call.path, timeout=timeout_s, **call.options)
            )
        except httpx.HTTPError as error:
            raise unreachable(self._url, error) from error
