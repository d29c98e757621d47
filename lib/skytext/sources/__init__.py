"""Sources: find the shards of an archive and read the images out of them."""

from skytext.sources.base import (
    SHARD_SUFFIXES,
    BBox,
    Member,
    Metadata,
    ReadLimits,
    ReadOptions,
    Sample,
    Shard,
    ShardCounts,
    image_id,
)
from skytext.sources.discover import discover, survey
from skytext.sources.fetch import Place, fetch_image, fetch_images, fetch_row
from skytext.sources.members import list_members, read_shard
from skytext.sources.sidecar import parse_bbox, parse_datetime, parse_sidecar
from skytext.sources.storage import READ_ERRORS, open_stream, read_range
from skytext.sources.stores import ChangedError

__all__ = [
    "READ_ERRORS",
    "SHARD_SUFFIXES",
    "BBox",
    "ChangedError",
    "Member",
    "Metadata",
    "Place",
    "ReadLimits",
    "ReadOptions",
    "Sample",
    "Shard",
    "ShardCounts",
    "discover",
    "fetch_image",
    "fetch_images",
    "fetch_row",
    "image_id",
    "list_members",
    "open_stream",
    "parse_bbox",
    "parse_datetime",
    "parse_sidecar",
    "read_range",
    "read_shard",
    "survey",
]
