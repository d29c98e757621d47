"""Find the shards in the sources, and read the images in these shards."""

from skytext.archive.discover import discover, survey
from skytext.archive.formats.by_format import list_members, read_shard
from skytext.archive.refetch import Place, fetch_image, fetch_images, fetch_row, fetch_rows
from skytext.archive.shards import (
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
from skytext.archive.sidecar import (
    parse_bbox,
    parse_datetime,
    parse_sidecar,
    unusable_values,
)
from skytext.archive.storage.files import read_range
from skytext.archive.storage.store import ChangedError, UnavailableError, is_store_fault
from skytext.archive.suffixes import SHARD_SUFFIXES

__all__ = [
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
    "UnavailableError",
    "discover",
    "fetch_image",
    "fetch_images",
    "fetch_row",
    "fetch_rows",
    "image_id",
    "is_store_fault",
    "list_members",
    "parse_bbox",
    "parse_datetime",
    "parse_sidecar",
    "read_range",
    "read_shard",
    "survey",
    "unusable_values",
]
