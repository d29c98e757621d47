"""The exception classes of skytext.

* SkytextError
  + CallError              the call is invalid: raised before any work starts, exit status 2
    - AddressError         an address is invalid
    - ConfigError          a setting, or a combination of settings, is invalid
    - SourceError          a source does not exist, is empty, cannot be read, or has an unknown
                           format
    - ModelError           a checkpoint or model cannot be used
    - TableError           a table does not exist, has a different schema or model, or is in a store
                           that cannot contain tables
    - CapacityError        the machine or the cluster is too small for the plan
  + SampleError            one image failed: the image gets a ``failed`` row, and the job continues
  + JobError               the work itself failed, exit status 1
    - TableHeldError       another run holds the table
    - CommitConflictError  another writer changed the table during this run
    - StoreFaultError      a store did not return an object, despite retries
    - FailureRateError     too many images failed
    - InterruptedRunError  a signal stopped the run, exit status 130
    - IncompleteRunError   the run cannot verify that every image has one row
    - BrokenListingError   too many images of an archive are missing from its listing
    - IndexRecallError     the recall of a vector index is too low

Every message contains the problem, the value, and the next step for the user.
"""

from __future__ import annotations

import errno
import os
import re
from enum import StrEnum


class Stage(StrEnum):
    """The stage of the pipeline in which an image failed."""

    READ = "read"
    DECODE = "decode"
    CAPTION = "caption"
    EMBED = "embed"


class Reason(StrEnum):
    """The reason why an image failed. ``failure.reason`` in the table contains this code."""

    UNREADABLE = "unreadable"
    CHANGED = "changed"
    STORE_FAULT = "store_fault"
    SHARD_UNREADABLE = "shard_unreadable"
    SHARD_TRUNCATED = "shard_truncated"
    SHARD_COMPRESSED = "shard_compressed"
    MEMBER_TOO_LARGE = "member_too_large"
    LINK_WITHOUT_TARGET = "link_without_target"
    EMPTY = "empty"
    NOT_AN_IMAGE = "not_an_image"
    UNSUPPORTED_IMAGE = "unsupported_image"
    TRUNCATED_IMAGE = "truncated_image"
    CORRUPT_IMAGE = "corrupt_image"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_SMALL = "too_small"
    NO_GOOD_VARIANT = "no_good_variant"
    PROMPT_TOO_LONG = "prompt_too_long"
    ENGINE_REFUSED = "engine_refused"
    ENGINE_DIED = "engine_died"
    ENGINE_HUNG = "engine_hung"
    EMBEDDING_FAILED = "embedding_failed"


class SkytextError(Exception):
    """The base class of all errors that skytext raises on purpose."""

    exit_status = 1


class CallError(SkytextError):
    """The call is invalid. No work was started."""

    exit_status = 2


class AddressError(CallError):
    """An address has an unsupported scheme, has no bucket, or names another machine."""


class ConfigError(CallError):
    """A setting, or a combination of settings, is invalid."""


class SourceError(CallError):
    """A source does not exist, is empty, cannot be read, or has an unknown format."""


class ModelError(CallError):
    """A checkpoint or model cannot be used."""


class TableError(CallError):
    """A table does not exist, has a different schema or model, or is in an unsuitable store."""


class CapacityError(CallError):
    """The machine or the cluster is too small for the plan."""


class JobError(SkytextError):
    """The work itself failed."""


class TableHeldError(JobError):
    """Another run holds the table."""


class CommitConflictError(JobError):
    """Another writer changed the table during this run."""


class StoreFaultError(JobError):
    """A store did not return an object, despite retries."""


class FailureRateError(JobError):
    """Too many images failed, so the whole job has failed."""


class InterruptedRunError(JobError):
    """A signal stopped the run. The finished work is committed."""

    exit_status = 130


class IncompleteRunError(JobError):
    """The run cannot verify that every image has exactly one row."""


class BrokenListingError(JobError):
    """Too many images of an archive are missing from its listing, so the listing is not trusted."""


class IndexRecallError(JobError):
    """The recall of a vector index is too low."""


class SampleError(SkytextError):
    """One image failed. The image becomes a ``failed`` row, and the job continues.

    Attributes:
        stage: the stage of the pipeline in which the image failed.
        reason: the code of the reason. It is stored in the row and counted.
        detail: one sentence without newlines, at most 500 characters.
        attempts: number of attempts, at least 1.
    """

    MAX_DETAIL_CHARS = 500

    def __init__(self, stage: Stage, reason: Reason, detail: str, *, attempts: int = 1) -> None:
        self.stage = stage
        self.reason = reason
        self.detail = " ".join(detail.split())[: self.MAX_DETAIL_CHARS]
        self.attempts = attempts
        super().__init__(f"{stage.value}: {reason.value}: {self.detail}")

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the arguments of the error, because Ray sends these errors between processes."""
        return (_rebuild, (self.stage, self.reason, self.detail, self.attempts))


def _rebuild(stage: Stage, reason: Reason, detail: str, attempts: int) -> SampleError:
    return SampleError(stage, reason, detail, attempts=attempts)


_ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or get a larger quota",
    errno.EROFS: "make it writable, or give another folder",
    errno.EACCES: "get the permission, or give another folder",
    errno.EPERM: "get the permission, or give another folder",
    errno.EIO: "check the disk",
}
_RUST_ERROR = re.compile(r'\(os error (?P<number>\d+)\)(?: at path "(?P<path>[^"]+)")?')
DISK_ERRNOS = frozenset(_ADVICE)
"""The error numbers of disk failures."""


def disk_failure(error: BaseException, where: object) -> str | None:
    """Return one line about a disk failure, with the reason, the path and advice.

    Args:
        error: an error of Python or of a Rust library. An error of a Rust library contains the
            error number only in its text.
        where: the path for the message if the error contains no path.

    Returns:
        The line, or None if the error is not a disk failure.
    """
    number = error.errno if isinstance(error, OSError) else None
    path = error.filename if isinstance(error, OSError) else None
    if number is None and (found := _RUST_ERROR.search(str(error))):
        number, path = int(found["number"]), found["path"]
    if number not in DISK_ERRNOS:
        return None
    return (
        f"{os.strerror(number)}: {path or where}: {_ADVICE[number]}, and then run the same command "
        "again"
    )
