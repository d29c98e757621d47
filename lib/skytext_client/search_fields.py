"""The search fields that the HTTP API, its links, Python and the client share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias, TypedDict

from pydantic import BaseModel, Field

from skytext_client.answers import Hit

MAX_K = 1000
MAX_CURSOR_CHARS = 4096

Mode: TypeAlias = Literal["dense", "text", "hybrid", "image", "image+dense"]
Combine: TypeAlias = Literal["max", "mean"]
Version: TypeAlias = Annotated[int, Field(ge=1, le=2**63 - 1)]
Versions: TypeAlias = Annotated[
    str,
    Field(
        pattern=r"^[1-9][0-9]{0,18}(,[1-9][0-9]{0,18})*$",
        max_length=1000,
        description="One version per table, if the service has several tables.",
    ),
]
VersionToken: TypeAlias = Annotated[Version | Versions, Field(union_mode="left_to_right")]
"""The `table_version` of an answer."""

Image: TypeAlias = str | Hit
"""An image of the table: its ``image_id``, or a hit."""
Example: TypeAlias = str | Hit | Mapping[str, str]
"""An example to move a query towards: a text, a hit, ``{"text": …}`` or ``{"image_id": …}``."""


class SearchFields(BaseModel):
    """The fields that every form of a search has."""

    combine: Combine = Field(
        "max", description="How several queries give one result.", examples=["mean"]
    )
    mode: Mode | None = Field(
        None,
        description="dense: vectors of the descriptions; text: their words (BM25); hybrid: both; "
        "image: the images' own vectors; image+dense: these and the descriptions'. Default: "
        "configured.",
        examples=["hybrid"],
    )
    k: int = Field(10, ge=1, le=MAX_K, description="Number of hits.", examples=[20])
    cursor: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_CURSOR_CHARS,
        description="`next_cursor` of the same search, to get the next page. 410 if its "
        "version is no longer held.",
        examples=["WzEsNDIsIjhmMGM0ZWYyM2MxYjRkMGQiLDIwLDAuNjEzLDcsbnVsbF0"],
    )
    min_score: Annotated[float, Field(ge=-1, le=1)] | None = Field(
        None, description="The least `score` of a hit.", examples=[0.4]
    )
    group_duplicates: bool = Field(
        False, description="Near-duplicates become one hit.", examples=[True]
    )
    exact: bool = Field(
        False, description="Score every row, even if there is an index.", examples=[True]
    )


class VersionedFields(SearchFields):
    """The fields of a search over HTTP, which may name a version."""

    version: VersionToken | None = Field(
        None,
        description="Search this version: the `table_version` of an earlier answer. "
        "410 if it is no longer held. Default: the live one.",
        examples=[42],
    )


class Search(TypedDict, total=False):
    """The fields of a client's search besides its text, in forms that are easy to write."""

    like: Image | Sequence[Image] | None
    combine: str | None
    positive: Sequence[Example]
    negative: Sequence[Example]
    mode: str | None
    k: int
    filter: str | Mapping[str, Any] | None
    intersects: Mapping[str, Any] | None
    cursor: str | None
    min_score: float | None
    version: int | str | None
    group_duplicates: bool
    exact: bool
