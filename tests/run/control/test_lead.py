from __future__ import annotations

import asyncio

import pytest

from skytext.run.control.lead import Lead


async def is_let_in(lead: Lead, unit_id: str, num_images: int) -> bool:
    try:
        await asyncio.wait_for(lead.admit(unit_id, num_images), 0.05)
    except TimeoutError:
        return False
    return True


def test_so_many_images_may_be_ahead_and_no_more() -> None:
    async def main() -> None:
        lead = Lead(10)
        assert await is_let_in(lead, "a", 4)
        assert await is_let_in(lead, "b", 6)
        assert not await is_let_in(lead, "c", 1)
        await lead.settle("a")
        assert await is_let_in(lead, "c", 1)
        assert not await is_let_in(lead, "d", 4)
        assert await is_let_in(lead, "e", 3)

    asyncio.run(main())


def test_who_waits_is_let_in_once_there_is_room() -> None:
    async def main() -> None:
        lead = Lead(10)
        await lead.admit("a", 10)
        waiting = [asyncio.create_task(lead.admit(name, 5)) for name in "bcd"]
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in waiting)
        await lead.settle("a")
        await asyncio.sleep(0.01)
        assert sum(task.done() for task in waiting) == 2
        await lead.settle("b")
        await asyncio.gather(*waiting)

    asyncio.run(main())


def test_a_unit_that_is_larger_than_the_limit_goes_alone() -> None:
    async def main() -> None:
        lead = Lead(10)
        assert await is_let_in(lead, "a", 50)
        assert not await is_let_in(lead, "b", 1)
        await lead.settle("a")
        assert await is_let_in(lead, "b", 1)

    asyncio.run(main())


@pytest.mark.parametrize("is_settled", [False, True])
def test_a_unit_that_is_tried_again_counts_once(is_settled: bool) -> None:
    async def main() -> None:
        lead = Lead(10)
        await lead.admit("a", 6)
        if is_settled:
            # Its record came, and then the worker that held the result died.
            await lead.settle("a")
        assert await is_let_in(lead, "a", 6)
        assert await is_let_in(lead, "b", 4)
        assert await is_let_in(lead, "c", 6) is is_settled

    asyncio.run(main())
