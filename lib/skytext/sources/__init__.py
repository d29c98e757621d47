"""Sources: find the shards of an archive and read the images out of them."""

from skytext.sources.base import (
    SHARD_SUFFIXES,
    BBox,
    Metadata,
    ReadLimits,
    Sample,
    Shard,
    ShardCounts,
    image_id,
)
from skytext.sources.discover import discover
from skytext.sources.sidecar import parse_bbox, parse_datetime, parse_sidecar
from skytext.sources.storage import READ_ERRORS, open_stream, read_range
from skytext.sources.tar import read_shard

__all__ = [
    "READ_ERRORS",
    "SHARD_SUFFIXES",
    "BBox",
    "Metadata",
    "ReadLimits",
    "Sample",
    "Shard",
    "ShardCounts",
    "discover",
    "image_id",
    "open_stream",
    "parse_bbox",
    "parse_datetime",
    "parse_sidecar",
    "read_range",
    "read_shard",
]
