"""The readiness check. It runs a test search to check whether the service can search."""

from __future__ import annotations

import asyncio
import time

from skytext.service.backend import Backend
from skytext.service.http.json_bodies import ReadyModel
from skytext.service.problem_details import too_busy

_TIMEOUT_S = 2.0
_FRESH_S = 1.0
"""The result of a test search is used again for this time. Therefore, frequent checks cause at most
one test search per second."""


class Readiness:
    """Runs a test search when a client requests the readiness.

    Requests that arrive at the same time share one test search. The embedding and search replicas
    run their own test queries before they accept requests. Therefore, if the test search here
    succeeds, the first search of a user is not slower than later searches.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._found: asyncio.Task[ReadyModel] | None = None
        self._found_at = -_FRESH_S

    async def state(self) -> ReadyModel:
        """Return the searched table version, and the reason if image vectors cannot be searched.

        Raises:
            ProblemError: 503: the test search failed or took too long.
        """
        found = self._found
        if found is None or (found.done() and time.monotonic() >= self._found_at + _FRESH_S):
            found = self._found = asyncio.create_task(self._search())
        # If one client disconnects, the test search must continue for the other clients.
        return await asyncio.shield(found)

    async def _search(self) -> ReadyModel:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                answer = await self._backend.try_out(None)
                problem = await self._backend.no_image_search()
        except TimeoutError:
            raise too_busy(f"a test search took longer than {_TIMEOUT_S:g} s", 1) from None
        finally:
            self._found_at = time.monotonic()
        return ReadyModel(table_version=answer["table_version"], no_image_search=problem)
