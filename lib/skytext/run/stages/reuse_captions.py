"""Describe identical bytes once and reuse the description.

Within an engine's actor, other images with the same bytes wait for the first image. For all engines
of a run, a ledger (`skytext.run.control.content_ledger`) decides which image is described for each
content, and no engine waits for another engine. Descriptions of earlier runs are read from the
table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from skytext.captions.captioner import Description, EngineInfo
from skytext.captions.parsing import Variant
from skytext.errors import SampleError
from skytext.run.control.content_ledger import (
    Asked,
    ContentLedger,
    Ledger,
    LocalLedger,
    Reply,
    Settled,
    Words,
)
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation

Describe = Callable[[], Awaitable[Words]]
QuestionT = TypeVar("QuestionT")
AnswerT = TypeVar("AnswerT")


class PutOffError(Exception):
    """Another engine describes this content, or its description is not committed yet."""


class Duplicates:
    """The descriptions of contents that one engine's actor can reuse.

    Args:
        location: the table with earlier descriptions; None if there is no table.
        caption_fingerprint: only descriptions with this caption fingerprint are reused.
        ledger: the ledger that the engines of a run share; None to use a ledger of this actor only.
    """

    def __init__(
        self,
        location: TableLocation | None,
        caption_fingerprint: str,
        ledger: Ledger | None = None,
    ) -> None:
        self._location = location
        self._fingerprint = caption_fingerprint
        ledger = ledger or LocalLedger(ContentLedger())
        self._claim = Batched(ledger.claim)
        self._settle = Batched(ledger.settle)
        self._look_up = Batched(self._read_in_thread)
        self._pending: dict[str, asyncio.Future[Words]] = {}

    async def describe(self, content_sha256: str, image_id: str, describe: Describe) -> Words:
        """Return the description of a content. Call ``describe`` only if no description exists.

        Raises:
            PutOffError: the ledger replied `Reply.PUT_OFF`.
            SampleError: ``describe`` raised this error. Every image that waits for this content
                gets the same error.
        """
        pending = self._pending.get(content_sha256)
        if pending is not None:
            return (await asyncio.shield(pending)).copied()
        future = asyncio.get_running_loop().create_future()
        # Read the future's error even if no caller waits, or asyncio logs that it was not handled.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._pending[content_sha256] = future
        try:
            words = await self._recall_or_describe(content_sha256, image_id, describe)
        except asyncio.CancelledError:
            future.cancel()
            raise
        except BaseException as error:
            future.set_exception(error)
            # The future refers to the error, and the error's traceback refers to this frame. If the
            # frame also referred to the future, this reference cycle would keep the owner of the
            # engine in memory until the next garbage collection.
            del future
            raise
        finally:
            del self._pending[content_sha256]
        future.set_result(words)
        return words

    async def _recall_or_describe(
        self, content_sha256: str, image_id: str, describe: Describe
    ) -> Words:
        reply = await self._claim(Asked(content_sha256, image_id))
        if reply is Reply.LOOK_UP:
            words = await self._look_up(content_sha256)
            if words is not None:
                await self._settle(Settled(content_sha256, image_id, words))
                return words
            reply = await self._claim(Asked(content_sha256, image_id, is_looked_up=True))
        if isinstance(reply, Words):
            return reply
        if reply is not Reply.DESCRIBE:
            raise PutOffError
        try:
            words = await describe()
        except SampleError:
            await self._settle(Settled(content_sha256, image_id, None))
            raise
        await self._settle(Settled(content_sha256, image_id, words))
        return words

    async def _read_in_thread(self, contents: Sequence[str]) -> list[Words | None]:
        found = await asyncio.to_thread(self._read, contents)
        return [found.get(content) for content in contents]

    def _read(self, contents: Sequence[str]) -> dict[str, Words]:
        table = None if self._location is None else ImagesTable.find(self._location)
        rows = {} if table is None else table.described(contents, self._fingerprint)
        return {
            content: Words(
                Description(tuple(Variant(**variant) for variant in row["captions"]), 0, 0, 0, 0),
                EngineInfo(row["engine_version"], row["caption_device"], row["caption_precision"]),
            )
            for content, row in rows.items()
        }


class Batched(Generic[QuestionT, AnswerT]):
    """A function that combines many requests into few calls.

    All requests that arrive during one call are sent together in the next call.

    Args:
        call: takes a list of requests and returns one result per request, in the same order.
    """

    def __init__(self, call: Callable[[Sequence[QuestionT]], Awaitable[Sequence[AnswerT]]]) -> None:
        self._call = call
        self._waiting: list[tuple[QuestionT, asyncio.Future[AnswerT]]] = []
        self._work: asyncio.Task[None] | None = None

    async def __call__(self, question: QuestionT) -> AnswerT:
        """Return the result of one request, or raise the error of the call that sent it."""
        future: asyncio.Future[AnswerT] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        if self._work is None:
            self._work = asyncio.create_task(self._answer())
        return await future

    async def _answer(self) -> None:
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                await self._answer_some(waiting)
        finally:
            self._work = None

    async def _answer_some(
        self, waiting: Sequence[tuple[QuestionT, asyncio.Future[AnswerT]]]
    ) -> None:
        questions = [question for question, _ in waiting]
        (answers,) = await asyncio.gather(self._call(questions), return_exceptions=True)
        if isinstance(answers, BaseException):
            # Each waiting caller raises the error.
            for _, future in waiting:
                if not future.done():
                    future.set_exception(answers)
            return
        for (_, future), answer in zip(waiting, answers, strict=True):
            if not future.done():
                future.set_result(answer)
