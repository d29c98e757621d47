from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from skytext.archive.storage.ranged_file import JUMPING, RangedFile, Window

DATA = random.Random(1).randbytes(100_000)
AHEAD = Window(1000, 8000, reads_ahead=True)


def fetching(asked: list[tuple[int, int]], fails_at: int = 10**9) -> Callable[[int, int], bytes]:
    def fetch(offset: int, length: int) -> bytes:
        asked.append((offset, length))
        if offset + length > fails_at:
            raise OSError("it broke off")
        return DATA[offset : offset + length]

    return fetch


@pytest.mark.parametrize("window", [JUMPING, AHEAD])
def test_random_access_reads_return_the_right_bytes(window: Window) -> None:
    rng = random.Random(2)
    with RangedFile(fetching([]), len(DATA), window) as file:
        for _ in range(300):
            if rng.random() < 0.3:
                file.seek(rng.randrange(len(DATA)))
            at, size = file.tell(), rng.choice([1, 512, 5000, 20_000])
            assert file.read(size) == DATA[at : at + size]


def test_the_next_range_is_fetched_while_one_is_worked_through() -> None:
    asked: list[tuple[int, int]] = []
    with RangedFile(fetching(asked), len(DATA), AHEAD) as file:
        assert b"".join(iter(lambda: file.read(700), b"")) == DATA
    # Each byte is fetched once. The windows grow.
    assert asked[:4] == [(0, 1000), (1000, 2000), (3000, 4000), (7000, 8000)]
    assert sum(length for _, length in asked) == len(DATA)


def test_a_fault_in_an_unneeded_range_is_ignored() -> None:
    with RangedFile(fetching([], fails_at=2500), len(DATA), AHEAD) as file:
        assert file.read(1000) == DATA[:1000]
        assert file.fault is None
        with pytest.raises(OSError, match="broke off"):
            file.read(2000)
        assert isinstance(file.fault, OSError)


def test_a_file_that_must_be_closed_is_not_read_ahead() -> None:
    asked: list[tuple[int, int]] = []
    closed: list[bool] = []
    file = RangedFile(fetching(asked), len(DATA), AHEAD, on_close=lambda: closed.append(True))
    assert file.read(500) == DATA[:500]
    file.close()
    assert (asked, closed) == ([(0, 1000)], [True])
