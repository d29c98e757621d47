"""Retry maintenance after a commit conflict. Each retry uses the latest version.

Maintenance means index builds, merges of fragments and changes of the table's configuration.
Maintenance does not hold the claim. So a run or another maintenance process may commit at the same
time. Lance then rejects the later of the two commits. No part of a rejected commit is visible.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import tenacity
from lance.commit import CommitConflictError as LanceConflict

from skytext.errors import CommitConflictError

_P = ParamSpec("_P")
_T = TypeVar("_T")
_TRIES = 6


def is_conflict(error: BaseException) -> bool:
    """Return whether a Lance error means that the commit conflicted with another commit."""
    if isinstance(error, LanceConflict):
        return True
    # Lance 14 raises OSError for some conflicts. Only the message of the error shows that it is a
    # conflict.
    return isinstance(error, OSError) and "conflict" in str(error).lower()


def repeat_on_conflict(maintain: Callable[_P, _T]) -> Callable[_P, _T]:
    """Decorate a maintenance function so that it is repeated after a commit conflict.

    The maintenance function must open the latest version itself. It must be safe to call this
    function again. The decorated function raises `CommitConflictError` if every attempt conflicts.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_conflict),
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=5),
        stop=tenacity.stop_after_attempt(_TRIES),
        reraise=True,
    )

    def repeated(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return retrying.copy()(maintain, *args, **kwargs)
        except (LanceConflict, OSError) as error:
            if not is_conflict(error):
                raise
            raise CommitConflictError(
                "the indexes were not changed, because each attempt conflicted with another commit "
                "to the table: run the same command again"
            ) from error

    return repeated
