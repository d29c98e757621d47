from __future__ import annotations

import asyncio
from typing import Any

import pytest

from skytext.service.http import readiness
from skytext.service.http.readiness import Readiness
from skytext.service.problem_details import ProblemError, too_busy


class Searches:
    """A backend whose searches end when the test sets `may_end`."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_end = asyncio.Event()
        self.error: Exception | None = None

    async def try_out(self, version: int | None) -> dict[str, Any]:
        assert version is None
        self.begun += 1
        await self.may_end.wait()
        if self.error is not None:
            raise self.error
        return {"table_version": 42}

    async def no_image_search(self) -> str | None:
        return None


def make(monkeypatch: pytest.MonkeyPatch, **settings: float) -> tuple[Readiness, Searches]:
    for name, value in settings.items():
        monkeypatch.setattr(readiness, name, value)
    searches = Searches()
    return Readiness(searches), searches  # type: ignore[arg-type]


def test_a_service_is_ready_once_a_search_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        ready, searches = make(monkeypatch, _TIMEOUT_S=0.05, _FRESH_S=0.0)
        with pytest.raises(ProblemError, match="took longer than") as caught:
            await ready.state()
        assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "1"})
        searches.may_end.set()
        assert (await ready.state()).table_version == 42

    asyncio.run(test())


def test_a_refused_search_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        ready, searches = make(monkeypatch)
        searches.may_end.set()
        searches.error = too_busy("too many requests are waiting already", 3)
        with pytest.raises(ProblemError, match="too many requests"):
            await ready.state()

    asyncio.run(test())


def test_readiness_checks_share_one_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        ready, searches = make(monkeypatch, _FRESH_S=60.0)
        asking = [asyncio.create_task(ready.state()) for _ in range(50)]
        await asyncio.sleep(0)
        asking.pop(0).cancel()
        searches.may_end.set()
        answers = await asyncio.gather(*asking)
        assert [answer.table_version for answer in answers] == [42] * 49
        assert (await ready.state()).table_version == 42
        assert searches.begun == 1

    asyncio.run(test())
