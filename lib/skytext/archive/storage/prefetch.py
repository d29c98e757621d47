"""Fetch many small files in parallel, and return them in order."""

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
    """Yield each item with its fetched content; some items are fetched ahead of the caller.

    An object store needs 10 to 50 ms for a request of any size. One at a time, these waits would
    slow down the whole pipeline.

    Args:
        items: the items to fetch; if their iterator raises, earlier items are yielded first.
        fetch: called in threads; should not raise.
        size_bytes: returns the size of an item's content.
        num_threads: items fetched at once.
        max_bytes: limit on the total size of items fetched ahead.
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
