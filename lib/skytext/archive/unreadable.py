"""What becomes of a shard, or of the rest of one, that cannot be read."""

from __future__ import annotations

from skytext.archive.shards import Sample, Shard, image_id
from skytext.archive.storage.files import describe_fault
from skytext.errors import Reason, SampleError, Stage


class ShardEndError(Exception):
    """The shard, or the rest of it, cannot be read."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(detail)


def store_end(shard: Shard, err: Exception) -> ShardEndError:
    """Turn one of `READ_ERRORS` into the end of a shard, with words on what to do."""
    said = f"({shard.uri}) cannot be read, or not any further: {describe_fault(err)}"
    return ShardEndError(Reason.SHARD_UNREADABLE, said)


def failed_shard(shard: Shard, end: ShardEndError) -> Sample:
    """Return the failed sample that stands for a shard, or for its unreadable rest."""
    return Sample(
        image_id=image_id(shard.archive, shard.path, "", 0),
        archive=shard.archive,
        shard=shard.path,
        member="",
        uri=shard.uri,
        shard_etag=shard.etag,
        byte_offset=None,
        byte_length=None,
        data=None,
        failure=SampleError(Stage.READ, end.reason, f"shard {shard.path} {end.detail}"),
    )
