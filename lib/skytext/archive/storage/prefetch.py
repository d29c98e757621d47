"""Fetch many small files side by side, and hand them on in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def prefetch(
    items: Iterator[T],
    fetch: Callable[[T], R],
    size_bytes: Callable[[T], int],
    *,
    num_threads: int,
    max_bytes: int,
) -> Generator[tuple[T, R], None, None]:
    """Yield each item with what was fetched for it, a few of them ahead of the caller.

    An object store answers a small request in 10 to 50 ms, however small: one after the other
    they would keep everything behind them waiting.

    Args:
        items: what to fetch; an error of theirs is raised once all before it was handed on.
        fetch: called in threads; should not raise.
        size_bytes: what an item will hold.
        num_threads: items fetched at once.
        max_bytes: items are fetched ahead only while they hold no more than this together.
    """
    waiting: deque[tuple[T, int, Future[R]]] = deque()
    held = 0
    with ThreadPoolExecutor(num_threads, "prefetch") as pool:
        try:
            error: Exception | None = None
            while True:
                while error is None and len(waiting) < num_threads and held <= max_bytes:
                    try:
                        item = next(items)
                    except StopIteration:
                        error = StopIteration()
                    except Exception as err:  # noqa: BLE001  # handed on below, in its place
                        error = err
                    else:
                        size = size_bytes(item)
                        held += size
                        waiting.append((item, size, pool.submit(fetch, item)))
                if not waiting:
                    break
                item, size, future = waiting.popleft()
                yield item, future.result()
                held -= size
            if error is not None and not isinstance(error, StopIteration):
                raise error
        finally:
            for _, _, future in waiting:
                future.cancel()
