from __future__ import annotations

import asyncio
import hashlib

import numpy as np
import pytest

from skytext.captions.captioner import Description, EngineInfo
from skytext.run.control import content_ledger
from skytext.run.control.content_ledger import (
    Asked,
    ContentLedger,
    LocalLedger,
    Reply,
    Settled,
    Words,
)

WORDS = Words(Description((), 0, 0, 0, 0), EngineInfo("e", "cpu", "none"))


def content(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def test_evicted_contents_stay_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_ledger, "_REMEMBERED", 10)
    monkeypatch.setattr(content_ledger, "_KEYS_A_CHUNK", 7)
    ledger = ContentLedger()
    ledger.settle([Settled(content(i), "old", WORDS) for i in range(1000)])
    for i in range(1000):
        expected = WORDS if i >= 990 else Reply.LOOK_UP
        assert ledger.claim([Asked(content(i), "new")]) == [expected]
    assert ledger.claim([Asked(content(1000), "new")]) == [Reply.DESCRIBE]
    # The description is not committed yet. After the commit, an image must be described if the
    # table has no description.
    looked_up = Asked(content(3), "new", is_looked_up=True)
    assert ledger.claim([looked_up]) == [Reply.PUT_OFF]
    ledger.begin_pass()
    assert ledger.claim([looked_up]) == [Reply.DESCRIBE]


def test_contents_of_the_table_are_looked_up() -> None:
    # The first 16 bytes of a hash may end in zeros, which NumPy cuts off.
    odd = "ab" * 14 + "0000" + "cd" * 16
    known = np.sort(np.array([bytes.fromhex(one)[:16] for one in (odd, content(1))], "S16"))
    ledger = ContentLedger()
    ledger.know(known)
    asked = [Asked(odd, "a"), Asked(content(1), "b"), Asked(content(2), "c")]
    assert ledger.claim(asked) == [Reply.LOOK_UP, Reply.LOOK_UP, Reply.DESCRIBE]
    assert ledger.claim([Asked(odd, "a", is_looked_up=True)]) == [Reply.DESCRIBE]
    assert ledger.claim([Asked(odd, "z", is_looked_up=True)]) == [Reply.PUT_OFF]


def test_a_single_engine_s_ledger_fetches_what_the_table_had() -> None:
    async def work() -> None:
        known = asyncio.get_running_loop().create_future()
        known.set_result(np.array([bytes.fromhex(content(1))[:16]]))
        ledger = LocalLedger(ContentLedger(), known)
        asked = [Asked(content(1), "a"), Asked(content(2), "b")]
        for _ in range(2):
            assert await ledger.claim(asked) == [Reply.LOOK_UP, Reply.DESCRIBE]
        # All descriptions are committed before a later pass, so this pass looks up every content.
        ledger.begin_pass()
        assert await ledger.claim(asked) == [Reply.LOOK_UP, Reply.LOOK_UP]

    asyncio.run(work())
