"""Call a function repeatedly in a thread during a block."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def watching(
    name: str, wait_s: Callable[[], float], look: Callable[[threading.Event], bool]
) -> Iterator[None]:
    """Call ``look`` repeatedly until the block ends, or until ``look`` returns False.

    Args:
        name: name of the thread.
        wait_s: a function that returns the number of seconds until the next call of ``look``.
        look: the function to call. It receives an event that is set when the block ends. It returns
            whether it must be called again.
    """
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(wait_s()):
            if not look(ended):
                return

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
