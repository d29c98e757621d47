"""Retry store requests whose response was interrupted, and requests for tags that were deleted.

Lance and `skytext.table.store.state_files` use Rust's object_store as client library. This library
retries failed requests several times, with increasing delays. In two cases, the library does not
retry a request. In the first case, the response is interrupted within its body. In the second case,
the request is a conditional put, and the connection breaks before the response arrives. The caller
must retry in these two cases.
"""

from __future__ import annotations

import tenacity

_ATTEMPTS = 6
_TAG_ATTEMPTS = 20


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


def tag_was_deleted(error: BaseException) -> bool:
    """Return whether Lance could not read a tag, because another process deleted the tag."""
    said = str(error).lower()
    return isinstance(error, ValueError | OSError) and "not found" in said and "ref" in said


while_tags_change = tenacity.retry(
    retry=tenacity.retry_if_exception(tag_was_deleted),
    wait=tenacity.wait_random(max=0.1),
    stop=tenacity.stop_after_attempt(_TAG_ATTEMPTS),
    reraise=True,
)
"""Decorator that calls a function again if another process deletes a tag during the call.

Lance first lists the tags of a data set, and then reads each tag. If a listed tag no longer exists,
Lance raises an error. It must be safe to repeat the function.
"""
