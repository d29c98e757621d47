"""Check by a trial search whether the service answers at full speed."""

from __future__ import annotations

import asyncio
import time

from skytext.service.backend import Backend
from skytext.service.http.json_bodies import ReadyModel
from skytext.service.problem_details import too_busy

_TIMEOUT_S = 2.0
_FRESH_S = 1.0
"""Time for which a result is reused: frequent checks cause at most one search per second."""


class Readiness:
    """Makes a trial search when a client asks; concurrent requests share it.

    Embedding and search replicas run trial searches before they accept requests. So if this search
    succeeds, the next one is as fast as any other.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._found: asyncio.Task[ReadyModel] | None = None
        self._found_at = -_FRESH_S

    async def state(self) -> ReadyModel:
        """Return the searched table version, and the unavailable functions.

        Raises:
            ProblemError: 503: the search failed or took too long.
        """
        found = self._found
        if found is None or (found.done() and time.monotonic() >= self._found_at + _FRESH_S):
            found = self._found = asyncio.create_task(self._search())
        # A client that disconnects must not cancel the search of the others.
        return await asyncio.shield(found)

    async def _search(self) -> ReadyModel:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                answer = await self._backend.try_out(None)
                problem = await self._backend.no_image_search()
        except TimeoutError:
            raise too_busy(f"a search is not answered within {_TIMEOUT_S:g} s", 1) from None
        finally:
            self._found_at = time.monotonic()
        return ReadyModel(table_version=answer["table_version"], no_image_search=problem)
