"""Look at something every now and then, in a thread, while a block runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def watching(
    name: str, wait_s: Callable[[], float], look: Callable[[threading.Event], bool]
) -> Iterator[None]:
    """Call ``look`` again and again until the block ends, or until ``look`` returns False.

    Args:
        name: of the thread.
        wait_s: gives the seconds until the next look.
        look: is given the event that is set when the block has ended; returns whether to go on.
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
