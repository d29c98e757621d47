"""Retry store requests whose response was interrupted.

Lance and `skytext.table.store.state_files` use Rust's object_store as client library. This library
retries failed requests several times, with increasing delays. In two cases, the library does not
retry a request. In the first case, the response is interrupted within its body. In the second case,
the request is a conditional put, and the connection breaks before the response arrives. The caller
must retry in these two cases.
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
"""Decorator that calls a function up to six times if a response is interrupted.

It must be safe to repeat the function.
"""
