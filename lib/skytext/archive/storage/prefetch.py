"""Fetch many small files in parallel, and yield them in the original order."""

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
    """Yield each item with its fetched content. Fetch some items before the caller takes them.

    An object store needs 10 to 50 ms even for a small request. If requests were sent one after the
    other, this time would slow down the whole pipeline.

    Args:
        items: the items to fetch. If the iterator raises an error, all earlier items are yielded
            before the error is raised.
        fetch: the function that fetches an item. It is called in threads. It should not raise an
            error.
        size_bytes: a function that returns the size of an item's content in bytes.
        num_threads: the number of items that are fetched in parallel.
        max_bytes: the limit on the total size of the items that the caller has not yet taken.
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
                    except Exception as err:  # noqa: BLE001  # raised below, after earlier items
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
