"""Retry store requests whose response was interrupted.

The client library below Lance and `skytext.table.state_files` (Rust's object_store) retries failed
requests with backoff and a limit. It does not retry a response that is interrupted in its body, nor
a conditional put whose connection breaks before the response. The caller must retry these.
"""

from __future__ import annotations

import tenacity

_ATTEMPTS = 6


def broke_off(error: BaseException) -> bool:
    """Return whether a response was interrupted and the library did not retry."""
    message = str(error)
    return "body error" in message or ("kind: Interrupted" in message and "retries: 0," in message)


again = tenacity.retry(
    retry=tenacity.retry_if_exception(broke_off),
    wait=tenacity.wait_random_exponential(multiplier=0.2, max=10),
    stop=tenacity.stop_after_attempt(_ATTEMPTS),
    reraise=True,
)
"""Decorates a repeatable function: up to six attempts if responses are interrupted."""
