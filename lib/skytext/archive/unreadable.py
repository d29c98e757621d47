"""The failed sample that reports a damaged shard."""

from __future__ import annotations

from skytext.archive.shards import Sample, Shard, image_id
from skytext.errors import Reason, SampleError, Stage


class ShardEndError(Exception):
    """The shard is damaged. It cannot be read at all, or only its beginning can be read."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(detail)


def failed_shard(shard: Shard, end: ShardEndError) -> Sample:
    """Return a failed sample. It reports that a shard, or the end of a shard, cannot be read."""
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
