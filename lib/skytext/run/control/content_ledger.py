"""Ensure that a run describes each distinct content once, even with several engines.

The first image that claims a content describes it. Until its description is ready, other images
with the same content are *put off*: a later pass of the run describes them. No engine waits for
another. A lost engine does no harm: Ray repeats its units, and a claim belongs to an image.

For several engines, the ledger is an actor on the driver's node, and one call covers many images.
For a single engine, its actor contains the ledger, which saves the start of one process.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any, NamedTuple, Protocol

import numpy as np
import ray
from numpy.typing import NDArray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from skytext.captions.captioner import Description, EngineInfo

# About 4 kB each.
_REMEMBERED = 8192
_KEY_BYTES = 16
_KEYS_A_CHUNK = 2**17


class Words(NamedTuple):
    """A description, and the engine that made it."""

    description: Description
    made_by: EngineInfo

    def copied(self) -> Words:
        """Return the words for another image of the content: it costs no request."""
        free = replace(
            self.description,
            attempts=0,
            num_prompt_tokens=0,
            num_cached_tokens=0,
            num_output_tokens=0,
        )
        return self._replace(description=free)


class Reply(Enum):
    """The instruction for an image without an existing description."""

    DESCRIBE = auto()
    """This image has claimed the content and describes it."""
    LOOK_UP = auto()
    """The table may have a description; look it up."""
    PUT_OFF = auto()
    """Another image has claimed it, or its description is not committed yet."""


class Asked(NamedTuple):
    """The request of one image.

    Attributes:
        content_sha256: hexadecimal.
        image_id: id of the image.
        is_looked_up: the table has no description of the content.
    """

    content_sha256: str
    image_id: str
    is_looked_up: bool = False


class Settled(NamedTuple):
    """The result for a content.

    Attributes:
        content_sha256: hexadecimal.
        image_id: of the image that describes it.
        words: its description; None: it got none, and another image may describe the content.
    """

    content_sha256: str
    image_id: str
    words: Words | None


class Ledger(Protocol):
    """The ledger's interface for an engine's actor."""

    async def claim(self, asked: Sequence[Asked]) -> Sequence[Words | Reply]:
        """Return one reply per request, in order."""

    async def settle(self, found: Sequence[Settled]) -> Sequence[None]:
        """Take the words of contents.

        Returns:
            One None per content.
        """


class ContentLedger:
    """The ledger in memory."""

    def __init__(self) -> None:
        self._known = _Keys([])
        # Contents whose descriptions were evicted.
        self._done = _Keys([])
        self._claims: dict[str, str] = {}
        self._recent: OrderedDict[str, tuple[str, Words]] = OrderedDict()
        self._is_committed = False

    def know(self, contents: NDArray[np.bytes_]) -> None:
        """Add the contents that have a description in the table at the start of the run.

        Args:
            contents: bytes (N,), sorted: the first 16 bytes of their hashes.
        """
        self._known = _Keys([contents])

    def begin_pass(self) -> None:
        """Reset the put-off contents: all descriptions so far are committed."""
        self._claims.clear()
        self._is_committed = True

    def claim(self, asked: Sequence[Asked]) -> list[Words | Reply]:
        """See `Ledger`."""
        return [self._claim(*one) for one in asked]

    def settle(self, found: Sequence[Settled]) -> list[None]:
        """See `Ledger`."""
        for content, image_id, words in found:
            self._claims.pop(content, None)
            if words is not None:
                self._remember(content, image_id, words)
        return [None] * len(found)

    def _claim(self, content: str, image_id: str, is_looked_up: bool) -> Words | Reply:
        if content in self._recent:
            self._recent.move_to_end(content)
            owner, words = self._recent[content]
            # The owner asks again if its engine was lost: the request was its own.
            return words if owner == image_id else words.copied()
        is_done = self._done.hold(content)
        may_be_there = self._is_committed or is_done or self._known.hold(content)
        if not is_looked_up and may_be_there:
            return Reply.LOOK_UP
        if is_done and not self._is_committed:
            return Reply.PUT_OFF
        is_ours = self._claims.setdefault(content, image_id) == image_id
        return Reply.DESCRIBE if is_ours else Reply.PUT_OFF

    def _remember(self, content: str, image_id: str, words: Words) -> None:
        self._recent[content] = image_id, words
        if len(self._recent) > _REMEMBERED:
            forgotten, _ = self._recent.popitem(last=False)
            self._done.add(forgotten)


class _Keys:
    """A set of contents by the first 16 bytes of their hashes, with 16 bytes of memory each."""

    def __init__(self, chunks: list[NDArray[np.bytes_]]) -> None:
        self._chunks = chunks
        self._new: set[bytes] = set()

    def add(self, content: str) -> None:
        self._new.add(_key(content))
        if len(self._new) < _KEYS_A_CHUNK:
            return
        chunk = np.array(sorted(self._new), f"S{_KEY_BYTES}")
        self._new = set()
        # Each chunk is larger than the next, so there are few, and each key is sorted few times.
        while self._chunks and len(self._chunks[-1]) <= len(chunk):
            chunk = np.sort(np.concatenate([self._chunks.pop(), chunk]))
        self._chunks.append(chunk)

    def hold(self, content: str) -> bool:
        key = _key(content)
        return key in self._new or any(_holds(chunk, key) for chunk in self._chunks)


def _key(content: str) -> bytes:
    return bytes.fromhex(content)[:_KEY_BYTES]


def _holds(chunk: NDArray[np.bytes_], key: bytes) -> bool:
    place = int(np.searchsorted(chunk, key))
    # NumPy strips trailing zeros.
    return place < len(chunk) and bool(chunk[place] == key.rstrip(b"\0"))


@dataclass(slots=True)
class LocalLedger:
    """A `Ledger` in the process of its caller.

    Attributes:
        ledger: the ledger.
        known: reference to the argument of `ContentLedger.know`, until it is fetched.
    """

    ledger: ContentLedger
    known: Any = None

    async def claim(self, asked: Sequence[Asked]) -> Sequence[Words | Reply]:
        """See `Ledger`."""
        if self.known is not None:
            self.ledger.know(await self.known)
            self.known = None
        return self.ledger.claim(asked)

    async def settle(self, found: Sequence[Settled]) -> Sequence[None]:
        """See `Ledger`."""
        return self.ledger.settle(found)

    def begin_pass(self) -> None:
        """See `ContentLedger`."""
        self.ledger.begin_pass()


@dataclass(frozen=True, slots=True)
class RemoteLedger:
    """A `Ledger` that all engines of a run share; made by `start_ledger`."""

    actor: Any

    async def claim(self, asked: Sequence[Asked]) -> Sequence[Words | Reply]:
        """See `Ledger`."""
        replies: list[Words | Reply] = await self.actor.claim.remote(asked)
        return replies

    async def settle(self, found: Sequence[Settled]) -> Sequence[None]:
        """See `Ledger`."""
        taken: list[None] = await self.actor.settle.remote(found)
        return taken

    def begin_pass(self) -> None:
        """See `ContentLedger`."""
        ray.get(self.actor.begin_pass.remote())


def start_ledger(known: Any) -> RemoteLedger:
    """Start a ledger on this node. It ends with the last reference to it.

    Args:
        known: reference to the argument of `ContentLedger.know`.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    # A restarted ledger is empty: a content may then be described twice, but no image is lost.
    options = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)
    actor = options(ContentLedger).remote()
    actor.know.remote(known)
    return RemoteLedger(actor)
