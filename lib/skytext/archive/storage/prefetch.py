"""Fetch many small files in parallel, and return them in their original order."""

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

    An object store needs 10 to 50 ms for a request of any size. If requests were sent one after the
    other, these waiting times would slow down the whole pipeline.

    Args:
        items: the items to fetch. If the iterator raises an error, all items before the error are
            yielded first.
        fetch: the function that fetches an item. It is called in threads and should not raise.
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
