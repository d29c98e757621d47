"""Ensure that a run describes each distinct content only once, even with several engines.

A content is the bytes of an image. Several images may have the same content. The run describes the
image that claims a content first. Until this description is committed, other images with the same
content are *put off*. This means that a later pass of the run processes these images. No engine
waits for another engine. If an engine is lost, Ray repeats the units of this engine. The claims
stay valid, because a claim belongs to an image and not to an engine.

If a run has several engines, the ledger is an actor on the driver's node. An engine sends the
requests for many images in one call of this actor. If a run has a single engine, the ledger is an
object in the actor of the engine. Ray then does not start an additional process.
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
        """Return this description for another image with the same content.

        All token counts of the result are 0, because the engine did not describe the other image.
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
    """The reply to a request for an image if the ledger has no description for the image."""

    DESCRIBE = auto()
    """The image has claimed the content. The caller must describe the image."""
    LOOK_UP = auto()
    """The table may contain a description of the content. The caller must read the table, and send
    a second request if the table contains no description."""
    PUT_OFF = auto()
    """The caller must leave the image to a later pass. Another image has claimed the content, or
    the description of the content is not committed yet."""


class Asked(NamedTuple):
    """A request to the ledger for the description of one image.

    Attributes:
        content_sha256: hash of the image's bytes, hexadecimal.
        image_id: id of the image.
        is_looked_up: whether the caller has already read the table and found no description of the
            content.
    """

    content_sha256: str
    image_id: str
    is_looked_up: bool = False


class Settled(NamedTuple):
    """The description of a content, or the information that the content got no description.

    Attributes:
        content_sha256: hash of the content, hexadecimal.
        image_id: id of the image that had claimed the content, or for which the content was looked
            up in the table.
        words: the description of the content. None if the engine could not describe the image.
            Another image may then claim the content.
    """

    content_sha256: str
    image_id: str
    words: Words | None


class Ledger(Protocol):
    """The interface of a ledger. The actors of the engines use it."""

    async def claim(self, asked: Sequence[Asked]) -> Sequence[Words | Reply]:
        """Return one reply per request, in the order of the requests."""

    async def settle(self, found: Sequence[Settled]) -> Sequence[None]:
        """Store the descriptions of contents, and end the claims on these contents.

        Returns:
            A list with one None per content.
        """


class ContentLedger:
    """A ledger that stores all its data in memory."""

    def __init__(self) -> None:
        self._known = _Keys([])
        # Contents that were described in this run, but whose descriptions are no longer in memory.
        self._done = _Keys([])
        self._claims: dict[str, str] = {}
        self._recent: OrderedDict[str, tuple[str, Words]] = OrderedDict()
        self._is_committed = False

    def know(self, contents: NDArray[np.bytes_]) -> None:
        """Set the contents that had a description in the table when the run started.

        Args:
            contents: the first 16 bytes of the hash of each content, dtype S16, shape (N,), sorted.
        """
        self._known = _Keys([contents])

    def begin_pass(self) -> None:
        """Delete all claims before the next pass.

        The descriptions of all earlier passes must be committed before this call.
        """
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
            # The owner is the image that the engine described. If the engine was lost, the owner
            # requests the description again. The tokens were used for the owner, so the owner gets
            # the token counts.
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
        # Merge chunks until each chunk is larger than the next chunk. There are then few chunks,
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
    # NumPy removes zero bytes at the end of a value.
    return place < len(chunk) and bool(chunk[place] == key.rstrip(b"\0"))


@dataclass(slots=True)
class LocalLedger:
    """A `Ledger` in the process of its caller.

    Attributes:
        ledger: the ledger.
        known: Ray reference to the argument of `ContentLedger.know`. The first call of `claim`
            fetches the argument, and then sets this attribute to None.
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
    """A `Ledger` that all engines of a run share. `start_ledger` makes it."""

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
    # If Ray restarts the ledger, the new ledger is empty. A content may then be described a second
    # time, but every image still gets a description.
    options = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)
    actor = options(ContentLedger).remote()
    actor.know.remote(known)
    return RemoteLedger(actor)
