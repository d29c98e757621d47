"""Retry store requests whose response was interrupted.

Lance and `skytext.table.store.state_files` use Rust's object_store as their client library. This
library retries failed requests with backoff and a limit. It does not retry if a response is
interrupted in its body, or if the connection of a conditional put breaks before the response. The
caller must retry in these two cases.
"""

from __future__ import annotations

import tenacity

_ATTEMPTS = 6


def broke_off(error: BaseException) -> bool:
    """Return whether a response was interrupted and the client library did not retry."""
    said = str(error)
    return "body error" in said or ("kind: Interrupted" in said and "retries: 0," in said)


again = tenacity.retry(
    retry=tenacity.retry_if_exception(broke_off),
    wait=tenacity.wait_random_exponential(multiplier=0.2, max=10),
    stop=tenacity.stop_after_attempt(_ATTEMPTS),
    reraise=True,
)
"""Decorator: call a function up to six times if responses are interrupted.

The function must be safe to repeat.
"""
