"""Whether the next search is answered at full speed: one is made, through the whole path."""

from __future__ import annotations

import asyncio
import time

from skytext.service.backend import Backend
from skytext.service.http.json_bodies import ReadyModel
from skytext.service.problem_details import too_busy

_TIMEOUT_S = 2.0
_FRESH_S = 1.0
"""What was found counts so long: whoever asks without end has one search a second made."""


class Readiness:
    """Makes a search where somebody asks; whoever asks meanwhile waits for the same one.

    The replicas of the embedding and of the search make one of their own before they take requests:
    a search that comes through is as fast as the next.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._found: asyncio.Task[ReadyModel] | None = None
        self._found_at = -_FRESH_S

    async def state(self) -> ReadyModel:
        """Return the version of the table that searches are answered from, and what is missing.

        Raises:
            ProblemError: 503: a search is not answered, or not in time.
        """
        found = self._found
        if found is None or (found.done() and time.monotonic() >= self._found_at + _FRESH_S):
            found = self._found = asyncio.create_task(self._search())
        # Whoever goes away leaves it to the others.
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
