"""The failed sample of a damaged shard, or of its damaged rest."""

from __future__ import annotations

from skytext.archive.shards import Sample, Shard, image_id
from skytext.errors import Reason, SampleError, Stage


class ShardEndError(Exception):
    """The bytes of the shard, or of the rest of it, are damaged."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(detail)


def failed_shard(shard: Shard, end: ShardEndError) -> Sample:
    """Return the failed sample for a shard, or for its unreadable rest."""
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
