"""The one exception tree of skytext.

* SkytextError
  + CallError              the call is wrong: said before any work starts, exit status 2
    - AddressError         an address that means no place
    - ConfigError          a setting, or a combination of settings, that cannot work
    - SourceError          a source that is missing, empty, refused or of an unknown format
    - ModelError           a checkpoint or model that cannot be used
    - TableError           a table that is missing, made by another schema or model, or in a store
                           that cannot hold one
    - CapacityError        the plan does not fit the machine or the cluster
  + SampleError            one image cannot be done: becomes a ``failed`` row, the job goes on
  + JobError               the work itself failed, exit status 1
    - TableHeldError       another run holds the table
    - CommitConflictError  another writer changed the table under this run
    - StoreFaultError      a store did not give what it holds, however often it was asked
    - FailureRateError     too large a part of the images failed
    - InterruptedRunError  a signal asked for the end, exit status 130
    - IncompleteRunError   the run cannot prove that every image became one row
    - BrokenListingError   too many images of an archive are gone from its listing
    - IndexRecallError     a vector index finds too little of what it should

Every message says what is wrong, names the value, and says what to do next.
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
    """Why an image failed: the enumerated code of ``failure.reason``."""

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
    """Base of every error that skytext raises on purpose."""

    exit_status = 1


class CallError(SkytextError):
    """The call is wrong; nothing was started."""

    exit_status = 2


class AddressError(CallError):
    """An address that means no place: another scheme, no bucket, another machine."""


class ConfigError(CallError):
    """A setting, or a combination of settings, that cannot work."""


class SourceError(CallError):
    """A source that is missing, empty, refused or of an unknown format."""


class ModelError(CallError):
    """A checkpoint or model that cannot be used."""


class TableError(CallError):
    """A table that is missing, made by another schema or model, or in an unfit store."""


class CapacityError(CallError):
    """The plan does not fit the machine or the cluster."""


class JobError(SkytextError):
    """The work itself failed."""


class TableHeldError(JobError):
    """Another run holds the table."""


class CommitConflictError(JobError):
    """Another writer changed the table under this run."""


class StoreFaultError(JobError):
    """A store did not give what it holds, however often it was asked."""


class FailureRateError(JobError):
    """Too large a part of the images failed: the job is failing as a whole."""


class InterruptedRunError(JobError):
    """A signal asked for the end; what was done is committed."""

    exit_status = 130


class IncompleteRunError(JobError):
    """The run cannot prove that every image met became exactly one row."""


class BrokenListingError(JobError):
    """Too many images of an archive are gone from its listing: it is taken for broken."""


class IndexRecallError(JobError):
    """A vector index finds too little of what exact search finds."""


class SampleError(SkytextError):
    """One image cannot be done; it becomes a ``failed`` row and the job goes on.

    Attributes:
        stage: the stage that gave the image up.
        reason: the enumerated code that is stored and counted.
        detail: one sentence for people, without newlines, at most 500 characters.
        attempts: how many times the work was tried, at least 1.
    """

    MAX_DETAIL_CHARS = 500

    def __init__(self, stage: Stage, reason: Reason, detail: str, *, attempts: int = 1) -> None:
        self.stage = stage
        self.reason = reason
        self.detail = " ".join(detail.split())[: self.MAX_DETAIL_CHARS]
        self.attempts = attempts
        super().__init__(f"{stage.value}: {reason.value}: {self.detail}")

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by the arguments: Ray carries these between processes."""
        return (_rebuild, (self.stage, self.reason, self.detail, self.attempts))


def _rebuild(stage: Stage, reason: Reason, detail: str, attempts: int) -> SampleError:
    return SampleError(stage, reason, detail, attempts=attempts)


_ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or get a larger quota",
    errno.EROFS: "make it writable, or name another folder",
    errno.EACCES: "get the permission, or name another folder",
    errno.EPERM: "get the permission, or name another folder",
    errno.EIO: "check the disk",
}
_RUST_ERROR = re.compile(r'\(os error (?P<number>\d+)\)(?: at path "(?P<path>[^"]+)")?')
DISK_ERRNOS = frozenset(_ADVICE)
"""What a disk refuses work with, whichever file it is about."""


def disk_failure(error: BaseException, where: object) -> str | None:
    """Return in one line what a disk refused, where, and what to do.

    Args:
        error: of Python, or of a library in Rust, which has the number in its text only.
        where: a path, for an error that names none.

    Returns:
        None where it is no failure of a disk.
    """
    number = error.errno if isinstance(error, OSError) else None
    path = error.filename if isinstance(error, OSError) else None
    if number is None and (found := _RUST_ERROR.search(str(error))):
        number, path = int(found["number"]), found["path"]
    if number not in DISK_ERRNOS:
        return None
    return (
        f"{os.strerror(number)}: {path or where}: {_ADVICE[number]} and run the same command again"
    )
