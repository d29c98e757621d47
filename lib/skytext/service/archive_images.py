"""Serve the images of the archive, as original files or as thumbnails.

For each request, the service reads the image from its shard. A row of the table contains the
address of the shard. The service refuses addresses outside the configured archive roots. If the
image bytes are not the bytes that were captioned, the response is 410 (gone).

The service also checks cached images. These are thumbnails in the cache of this process, and images
that a browser has cached and revalidates. First the service checks whether the shard has changed.
The service reads the image again only if the shard has changed.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from cachetools import LRUCache, TTLCache
from PIL import Image

from skytext.addresses.address_parser import Location, parse_location
from skytext.archive import (
    ChangedError,
    Place,
    fetch_image,
    fetch_row,
)
from skytext.archive.shards import ReadOptions
from skytext.config.settings import Config
from skytext.errors import AddressError, JobError, SampleError
from skytext.pixels.decode import ImageLimits, decode_rgb, normalise
from skytext.service.problem_details import ProblemError
from skytext.service.served_tables import TableSet
from skytext.service.telemetry.metrics import Meter, timed
from skytext.table.shards.moved_images import moved_row

THUMBNAIL_SIZES = (128, 256, 512, 1024)
_MEDIA_TYPES = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "tiff": "image/tiff",
}
_WEBP_QUALITY = 80
_RETRY_S = 5.0
LOOK_AGAIN_S = 5.0
"""After a check, a shard is not checked again for this time. This saves store requests, because a
page of results often shows many images of one shard."""
_MAX_LOOKED_AT = 10_000
_THUMBNAIL_VERSION = 1
"""A part of the ETag of each thumbnail. Increase this number if a code change makes thumbnails look
different."""


class Encoded(NamedTuple):
    """An encoded image for a response.

    Attributes:
        data: the encoded bytes.
        media_type: the media type of ``data``.
        etag: a strong ETag, including the quotes.
    """

    data: bytes
    media_type: str
    etag: str


class Images:
    """Reads the images that the rows of the served tables describe."""

    def __init__(self, tables: TableSet, config: Config, meter: Meter) -> None:
        service = config.service
        self._roots = [_root(root) for root in service.archive_roots]
        self._max_bytes = service.limits.max_image_bytes
        # A user waits for the response, so report an unavailable archive quickly.
        retry_s = min(config.sources.retry_s, _RETRY_S)
        self._options = ReadOptions(config.sources.image_column, retry_s)
        self._tables = tables
        self._limits = config.images
        self._meter = meter
        self._thumbnails: LRUCache[str, bytes] = LRUCache(
            max(service.thumbnail_cache_bytes, 1), getsizeof=len
        )
        self._looked_at: TTLCache[tuple[str, str], None] = TTLCache(_MAX_LOOKED_AT, LOOK_AGAIN_S)

    def etag(self, row: Mapping[str, Any], size_px: int | None = None) -> str:
        """Return the ETag of an image or of a thumbnail. This does not read the image.

        Args:
            row: the row of the image.
            size_px: the size of the thumbnail. None means the original image.
        """
        kind = "" if size_px is None else f"-{_THUMBNAIL_VERSION}-{size_px}"
        if size_px is not None and self._limits.bands is not None:
            kind += "-" + ".".join(map(str, self._limits.bands))
        return f'"{row["content_sha256"]}{kind}"'

    async def whole(self, row: Mapping[str, Any]) -> Encoded:
        """Return an image's original bytes.

        Args:
            row: the row of the image, with all columns except the vectors. If several tables are
                served, the row also contains the name of the table.

        Raises:
            ProblemError: 403, 404 or 422: for the same reasons as in `check`. 410: the archive no
                longer contains the captioned bytes. 502: the archive cannot be read.
        """
        self.check(row)
        data = await asyncio.to_thread(self._read, row)
        media_type = _MEDIA_TYPES.get(row["format"] or "", "application/octet-stream")
        return Encoded(data, media_type, self.etag(row))

    async def thumbnail(self, row: Mapping[str, Any], size_px: int) -> Encoded:
        """Return a thumbnail as WebP. The longer side has at most ``size_px`` pixels.

        Raises:
            ProblemError: 403, 404 or 422: for the same reasons as in `check`. 410: the archive no
                longer contains the captioned bytes. 502: the archive cannot be read.
        """
        self.check(row)
        etag = self.etag(row, size_px)
        data = self._thumbnails.get(etag)
        if data is None:
            whole = await asyncio.to_thread(self._read, row)
            data = await asyncio.to_thread(self._scale, whole, size_px)
            if len(data) <= self._thumbnails.maxsize:
                self._thumbnails[etag] = data
        else:
            await self.check_unchanged(row)
        return Encoded(data, "image/webp", etag)

    async def check_unchanged(self, row: Mapping[str, Any]) -> None:
        """Refuse an image if the shard no longer contains the captioned bytes.

        If the shard has not changed, this method reads one byte. If the shard has changed, this
        method reads the whole image.

        Raises:
            ProblemError: 410: the archive no longer contains the captioned bytes. 502: the archive
                cannot be read.
        """
        etag = row["shard_etag"] or ""
        shard, image = (_shard_uri(row), etag), (row["uri"], etag)
        if shard in self._looked_at or image in self._looked_at:
            return
        if await asyncio.to_thread(self._is_unchanged, *shard):
            self._looked_at[shard] = None
        else:
            await asyncio.to_thread(self._read, row)
            self._looked_at[image] = None

    def check(self, row: Mapping[str, Any]) -> None:
        """Refuse an image that this service cannot read or may not read.

        Raises:
            ProblemError: 403: the image is outside the archive roots. 404: the row has no readable
                image. 422: the image is too large.
        """
        if not row["member"] or row["content_sha256"] is None:
            raise ProblemError(404, "no-image", "this row has no readable image")
        if not self._is_allowed(_shard_uri(row)):
            raise ProblemError(
                403,
                "outside-archive",
                "this image is outside the archive roots that this service may read: the setting "
                "service.archive_roots lists the roots",
            )
        if (row["byte_length"] or 0) > self._max_bytes:
            raise ProblemError(
                422,
                "image-too-large",
                f"this image has more than {self._max_bytes:,} bytes, which is the limit of this "
                "service",
            )

    def _is_allowed(self, uri: str) -> bool:
        try:
            place = parse_location(uri)
        except AddressError:
            return False
        if place.scheme == "file":
            path = os.path.realpath(place.path)
        elif any(part in (".", "..") for part in place.path.split("/")):
            return False  # the client of the store may replace "." and ".." in the path
        else:
            path = place.path
        return any(_is_below(Location(place.scheme, place.bucket, path), r) for r in self._roots)

    def _is_unchanged(self, shard_uri: str, etag: str) -> bool:
        with _archive_errors():
            try:
                fetch_image(
                    shard_uri, "", byte_offset=0, byte_length=1, etag=etag, options=self._options
                )
            except ChangedError:
                return False
        return True

    def _read(self, row: Mapping[str, Any]) -> bytes:
        location = self._tables.locations[self._tables.place_or_only(row.get("table"))]
        with _archive_errors(), timed(self._meter, "read"):
            data = fetch_row(row, self._options, partial(moved_row, location))
        # Always check the hash. If a shard was overwritten, its size and its modification time may
        # be the same as before.
        if hashlib.sha256(data).hexdigest() != row["content_sha256"]:
            raise _gone()
        return data

    def _scale(self, data: bytes, size_px: int) -> bytes:
        limits = ImageLimits(
            max_pixels=self._limits.max_pixels,
            min_side_px=1,
            max_side_px=max(THUMBNAIL_SIZES),
            bands=self._limits.bands,
        )
        try:
            with timed(self._meter, "thumbnail"):
                image = decode_rgb(normalise(data, limits).data)
        except SampleError as error:
            raise ProblemError(422, "not-decodable", error.detail) from error
        image.thumbnail((size_px, size_px), Image.Resampling.LANCZOS)
        encoded = io.BytesIO()
        image.save(encoded, "WEBP", quality=_WEBP_QUALITY)
        return encoded.getvalue()


@contextmanager
def _archive_errors() -> Iterator[None]:
    try:
        yield
    except ChangedError as error:
        raise _gone() from error
    except (OSError, JobError) as error:
        raise ProblemError(
            502, "archive-unreadable", "the archive did not return this image: try again later"
        ) from error


def _shard_uri(row: Mapping[str, Any]) -> str:
    return Place(row["uri"], row["member"]).shard_uri


def _gone() -> ProblemError:
    return ProblemError(
        410,
        "changed",
        "the archive no longer contains the image that was captioned: run the captioning job again",
    )


def _root(root: str) -> Location:
    place = parse_location(root)
    if place.scheme != "file":
        return place
    return Location("file", "", os.path.realpath(place.path))


def _is_below(place: Location, root: Location) -> bool:
    if (place.scheme, place.bucket) != (root.scheme, root.bucket):
        return False
    return place.path == root.path or place.path.startswith(root.prefix)


def archive_roots(roots: Sequence[str]) -> tuple[str, ...]:
    """Return the archive roots as normalised addresses. Local paths become absolute.

    Raises:
        AddressError: an address is invalid.
    """
    return tuple(_root(root).uri for root in roots)
