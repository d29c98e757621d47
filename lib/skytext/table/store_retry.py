"""Ask a store again whose answer broke off.

The client library below Lance and `skytext.table.state_files` (Rust's object_store) repeats
requests that fail, with backoff and a limit; but not those whose answer breaks off in its body, and
not a conditional put whose connection breaks before the answer. That is left to the caller.
"""

from __future__ import annotations

import tenacity

_ATTEMPTS = 6


def broke_off(error: BaseException) -> bool:
    """Return whether an answer of the store broke off on its way, and nobody has asked again."""
    said = str(error)
    return "body error" in said or ("kind: Interrupted" in said and "retries: 0," in said)


again = tenacity.retry(
    retry=tenacity.retry_if_exception(broke_off),
    wait=tenacity.wait_random_exponential(multiplier=0.2, max=10),
    stop=tenacity.stop_after_attempt(_ATTEMPTS),
    reraise=True,
)
"""Decorates what may be done twice, and is done up to six times where answers break off."""
