"""Ensure that a run describes each distinct content once, even with several engines.

A content is the bytes of an image. The first image that claims a content is described. Until this
description is ready, other images with the same content are *put off*: a later pass of the run
describes them. No engine waits for another engine. If an engine is lost, Ray repeats its units. The
claims stay valid, because a claim belongs to an image and not to an engine.

For several engines, the ledger is an actor on the driver's node, and one call contains requests of
many images. For a single engine, the ledger is part of the engine's actor, so no extra process must
start.
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

# Maximum number of descriptions in memory. A description has about 4 kB.
_REMEMBERED = 8192
_KEY_BYTES = 16
_KEYS_A_CHUNK = 2**17


class Words(NamedTuple):
    """A description, and the engine that made it."""

    description: Description
    made_by: EngineInfo

    def copied(self) -> Words:
        """Return the words for another image of the same content, with all token counts 0.

        The other image needs no request to the engine.
        """
        free = replace(
            self.description,
            attempts=0,
            num_prompt_tokens=0,
            num_cached_tokens=0,
            num_output_tokens=0,
        )
        return self._replace(description=free)


class Reply(Enum):
    """The instruction for an image whose description the ledger cannot return."""

    DESCRIBE = auto()
    """This image has claimed the content and must be described."""
    LOOK_UP = auto()
    """The table may have a description of the content. The caller must look it up."""
    PUT_OFF = auto()
    """Another image has claimed the content, or the content's description is not committed yet."""


class Asked(NamedTuple):
    """The request of one image.

    Attributes:
        content_sha256: hash of the image's bytes, hexadecimal.
        image_id: id of the image.
        is_looked_up: whether the caller has looked up the content in the table without success.
    """

    content_sha256: str
    image_id: str
    is_looked_up: bool = False


class Settled(NamedTuple):
    """The result for a content.

    Attributes:
        content_sha256: hash of the content, hexadecimal.
        image_id: id of the image whose request led to this result.
        words: the description of the content; None if the image got no description. Another image
            may then claim the content.
    """

    content_sha256: str
    image_id: str
    words: Words | None


class Ledger(Protocol):
    """The ledger's interface for an engine's actor."""

    async def claim(self, asked: Sequence[Asked]) -> Sequence[Words | Reply]:
        """Return one reply per request, in order."""

    async def settle(self, found: Sequence[Settled]) -> Sequence[None]:
        """Store the descriptions of contents.

        Returns:
            A list with one None per content.
        """


class ContentLedger:
    """The ledger in memory."""

    def __init__(self) -> None:
        self._known = _Keys([])
        # Contents that were described in this run, but whose descriptions are no longer in memory.
        self._done = _Keys([])
        self._claims: dict[str, str] = {}
        self._recent: OrderedDict[str, tuple[str, Words]] = OrderedDict()
        self._is_committed = False

    def know(self, contents: NDArray[np.bytes_]) -> None:
        """Set the contents that have a description in the table at the start of the run.

        Args:
            contents: the first 16 bytes of the hash of each content, bytes (N,), sorted.
        """
        self._known = _Keys([contents])

    def begin_pass(self) -> None:
        """Delete all claims before the next pass. All earlier descriptions must be committed."""
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
            # The owner repeats its request if its engine was lost. The tokens were spent for the
            # owner, so the owner gets the token counts.
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
    """A set of contents. It stores the first 16 bytes of the hash of each content."""

    def __init__(self, chunks: list[NDArray[np.bytes_]]) -> None:
        self._chunks = chunks
        self._new: set[bytes] = set()

    def add(self, content: str) -> None:
        self._new.add(_key(content))
        if len(self._new) < _KEYS_A_CHUNK:
            return
        chunk = np.array(sorted(self._new), f"S{_KEY_BYTES}")
        self._new = set()
        # Merge chunks so that each chunk is larger than the next chunk. There are then few chunks,
        # and each key is sorted only a few times.
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
        known: Ray reference to the argument of `ContentLedger.know`; None after it was fetched.
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
    """Start a ledger on this node. The ledger ends when the last reference to it is deleted.

    Args:
        known: Ray reference to the argument of `ContentLedger.know`.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    # If Ray restarts the ledger, the new ledger is empty. A content may then be described twice,
    # but no image is lost.
    options = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)
    actor = options(ContentLedger).remote()
    actor.know.remote(known)
    return RemoteLedger(actor)
