"""Maintenance that another commit got in before is tried again on the version that this one made.

Index builds, merges and settings hold no claim: a run may commit at any moment, and so may other
maintenance. Lance then refuses the later one, and nothing of it is visible.
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
    """Return whether an error of Lance says that another commit came first."""
    if isinstance(error, LanceConflict):
        return True
    # Lance 14 raises OSError for some of them: only the text tells.
    return isinstance(error, OSError) and "conflict" in str(error).lower()


def repeat_on_conflict(maintain: Callable[_P, _T]) -> Callable[_P, _T]:
    """Decorate maintenance that opens the latest version itself and may be done again.

    It raises `CommitConflictError` if others commit each time it is tried.
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
                "others committed to the table each time that its indexes were to be changed: "
                "nothing of that was done; run the same command again"
            ) from error

    return repeated
