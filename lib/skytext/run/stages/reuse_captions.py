"""Describe images with identical bytes only once, and reuse the description.

A content is the bytes of an image. If several images with the same content are in the actor of one
engine, the first image is described, and the other images wait for this description. A ledger
(`skytext.run.control.content_ledger`) decides, for all engines of a run, which image is described
for each content. No engine waits for another engine. Descriptions that earlier runs made are read
from the table.
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
    """The image must be processed in a later pass.

    Another engine describes the same content, or the description of the content is not committed
    yet.
    """


class Duplicates:
    """The descriptions that the actor of one engine can reuse.

    Args:
        location: the table that contains earlier descriptions; None if there is no table.
        caption_fingerprint: a description is reused only if it has this caption fingerprint.
        ledger: the ledger that all engines of a run share. If None, this actor makes its own
            ledger.
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
        """Return the description of a content.

        If no description of the content exists, call ``describe``.

        Raises:
            PutOffError: the ledger replied `Reply.PUT_OFF`.
            SampleError: ``describe`` raised this error. Every image that is waiting for the
                description of this content gets the same error.
        """
        pending = self._pending.get(content_sha256)
        if pending is not None:
            return (await asyncio.shield(pending)).copied()
        future = asyncio.get_running_loop().create_future()
        # Read the error of the future even if no caller is waiting. Otherwise asyncio would log
        # that the error was not handled.
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
    """Combines many requests into few calls of a function.

    All requests that arrive during a call are sent together in the next call.

    Args:
        call: the function. It receives a list of requests, and returns one result per request, in
            the order of the requests.
    """

    def __init__(self, call: Callable[[Sequence[QuestionT]], Awaitable[Sequence[AnswerT]]]) -> None:
        self._call = call
        self._waiting: list[tuple[QuestionT, asyncio.Future[AnswerT]]] = []
        self._work: asyncio.Task[None] | None = None

    async def __call__(self, question: QuestionT) -> AnswerT:
        """Send one request, and return its result.

        If the call of the function fails, this method raises the same error.
        """
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
            # The call failed, so every caller that is waiting for a result gets the error.
            for _, future in waiting:
                if not future.done():
                    future.set_exception(answers)
            return
        for (_, future), answer in zip(waiting, answers, strict=True):
            if not future.done():
                future.set_result(answer)
