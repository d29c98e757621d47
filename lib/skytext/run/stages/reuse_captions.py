"""Describe identical bytes once: the second image gets the words of the first.

Within an engine's actor all images pass here. What is being described is waited for; what was
described lately is remembered; what was described longer ago, or by an earlier run, is read from
the table.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import numpy as np
from numpy.typing import NDArray

from skytext.captions.captioner import Description
from skytext.captions.parsing import Variant
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation

# About 4 kB each.
_REMEMBERED = 8192
_KEY_BYTES = 16

Describe = Callable[[], Awaitable[Description]]


class Duplicates:
    """What one engine's actor knows of contents that have a description.

    Args:
        location: the table; None for none.
        caption_fingerprint: descriptions made with other settings do not count.
        known: bytes (N,), sorted: the first 16 bytes of the content hashes that had a description
            when the run started; None for none.
    """

    def __init__(
        self,
        location: TableLocation | None,
        caption_fingerprint: str,
        known: NDArray[np.bytes_] | None = None,
    ) -> None:
        self._location = location
        self._fingerprint = caption_fingerprint
        self._known = np.empty(0, f"S{_KEY_BYTES}") if known is None else known
        self._pending: dict[str, asyncio.Future[Description]] = {}
        self._recent: OrderedDict[str, Description] = OrderedDict()
        self._earlier: set[bytes] = set()

    async def describe(self, content_sha256: str, describe: Describe) -> Description:
        """Return the description of a content, calling ``describe`` only where there is none.

        Raises:
            SampleError: what ``describe`` raised, for every image of this content that waited.
        """
        pending = self._pending.get(content_sha256)
        if pending is not None:
            return _copy(await asyncio.shield(pending))
        future = asyncio.get_running_loop().create_future()
        # Nobody may be waiting: then what it raises is raised here, and only here.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._pending[content_sha256] = future
        try:
            description = await self._recall(content_sha256) or await describe()
        except asyncio.CancelledError:
            future.cancel()
            raise
        except BaseException as error:
            future.set_exception(error)
            # The error's traceback holds this frame: with the future in it they would hold each
            # other, and the engine's owner with them, until the garbage is collected.
            del future
            raise
        finally:
            del self._pending[content_sha256]
        future.set_result(description)
        self._remember(content_sha256, description)
        return description

    async def _recall(self, content_sha256: str) -> Description | None:
        recent = self._recent.get(content_sha256)
        if recent is not None:
            self._recent.move_to_end(content_sha256)
            return _copy(recent)
        key = bytes.fromhex(content_sha256)[:_KEY_BYTES]
        place = int(np.searchsorted(self._known, key))
        was_known = place < len(self._known) and self._known[place] == key.rstrip(b"\0")
        if not was_known and key not in self._earlier:
            return None
        return await asyncio.to_thread(self._read, content_sha256)

    def _read(self, content_sha256: str) -> Description | None:
        table = None if self._location is None else ImagesTable.find(self._location)
        row = None if table is None else table.described(content_sha256, self._fingerprint)
        if row is None:
            return None
        variants = tuple(Variant(**variant) for variant in row)
        return Description(variants, 0, 0, 0, 0)

    def _remember(self, content_sha256: str, description: Description) -> None:
        self._recent[content_sha256] = description
        if len(self._recent) > _REMEMBERED:
            forgotten, _ = self._recent.popitem(last=False)
            self._earlier.add(bytes.fromhex(forgotten)[:_KEY_BYTES])


def _copy(description: Description) -> Description:
    """Return the description for another image, at no cost of its own."""
    return dataclasses.replace(
        description, attempts=0, num_prompt_tokens=0, num_cached_tokens=0, num_output_tokens=0
    )
