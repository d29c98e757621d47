"""The search fields that the HTTP API, search links, the Python library and the client share."""

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
        description="The version of each table, joined by commas, if the service has several "
        "tables.",
    ),
]
VersionToken: TypeAlias = Annotated[Version | Versions, Field(union_mode="left_to_right")]
"""The `table_version` of a response."""

Image: TypeAlias = str | Hit
"""An image of the table: an ``image_id`` or a hit."""
Example: TypeAlias = str | Hit | Mapping[str, str]
"""An example that a query is moved towards or away from: a text, a hit, ``{"text": …}`` or
``{"image_id": …}``."""


class SearchFields(BaseModel):
    """The fields that all kinds of search requests have."""

    combine: Combine = Field(
        "max",
        description="How the scores of several queries are combined: maximum or mean.",
        examples=["mean"],
    )
    mode: Mode | None = Field(
        None,
        description="What the query is compared with. dense: the vectors of the descriptions. "
        "text: the words of the descriptions (BM25). hybrid: dense and text. image: the image "
        "vectors. image+dense: the image vectors and the vectors of the descriptions. Default: the "
        "mode in the configuration.",
        examples=["hybrid"],
    )
    k: int = Field(10, ge=1, le=MAX_K, description="Number of hits.", examples=[20])
    cursor: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_CURSOR_CHARS,
        description="`next_cursor` of the same search, to get the next page. The status is 410 if "
        "the service no longer holds the version of the cursor.",
        examples=["WzEsNDIsIjhmMGM0ZWYyM2MxYjRkMGQiLDIwLDAuNjEzLDcsbnVsbF0"],
    )
    min_score: Annotated[float, Field(ge=-1, le=1)] | None = Field(
        None, description="The minimum `score` of a hit.", examples=[0.4]
    )
    group_duplicates: bool = Field(
        False, description="Return near-duplicates as one hit.", examples=[True]
    )
    exact: bool = Field(
        False, description="Score every image, without an approximate index.", examples=[True]
    )


class VersionedFields(SearchFields):
    """The fields of a search over HTTP, which may contain a version."""

    version: VersionToken | None = Field(
        None,
        description="The version to search: the `table_version` of an earlier response. The status "
        "is 410 if the service no longer holds this version. Default: the live version.",
        examples=[42],
    )


class Search(TypedDict, total=False):
    """The fields of a search by the client, except the text. The client converts them to JSON."""

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
