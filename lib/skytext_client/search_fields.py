"""The fields of a search, for the HTTP API, links, the Python library and the client."""

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
        description="The versions of all tables, joined by commas. This form is used if the "
        "service has several tables.",
    ),
]
VersionToken: TypeAlias = Annotated[Version | Versions, Field(union_mode="left_to_right")]
"""The `table_version` of a response."""

Image: TypeAlias = str | Hit
"""An image in the table. It is given as an ``image_id`` or as a hit."""
Example: TypeAlias = str | Hit | Mapping[str, str]
"""An example: a text, a hit, ``{"text": …}`` or ``{"image_id": …}``. A query is moved towards
positive examples, and away from negative examples."""


class SearchFields(BaseModel):
    """The fields that are common to all kinds of search requests."""

    combine: Combine = Field(
        "max",
        description="How the scores of several queries are combined: by their maximum or by their "
        "mean.",
        examples=["mean"],
    )
    mode: Mode | None = Field(
        None,
        description="The search mode. dense compares the query with the vectors of the "
        "descriptions. text compares it with the words of the descriptions (BM25). hybrid combines "
        "dense and text. image compares it with the image vectors. image+dense combines image and "
        "dense. Default: the mode in the configuration.",
        examples=["hybrid"],
    )
    k: int = Field(10, ge=1, le=MAX_K, description="Maximum number of hits.", examples=[20])
    cursor: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_CURSOR_CHARS,
        description="The value of `next_cursor` in the previous page of the same search. With this "
        "cursor, the search returns the next page. If the service no longer holds the version of "
        "the previous page, the status is 410.",
        examples=["WzEsNDIsIjhmMGM0ZWYyM2MxYjRkMGQiLDIwLDAuNjEzLDcsbnVsbF0"],
    )
    min_score: Annotated[float, Field(ge=-1, le=1)] | None = Field(
        None, description="The minimum `score` of a hit.", examples=[0.4]
    )
    group_duplicates: bool = Field(
        False, description="True to return near-duplicates as one hit.", examples=[True]
    )
    exact: bool = Field(
        False,
        description="True to score every image. False to allow an approximate index.",
        examples=[True],
    )


class VersionedFields(SearchFields):
    """The fields of a search over HTTP. Such a search can name a version."""

    version: VersionToken | None = Field(
        None,
        description="The version to search. Use the `table_version` of an earlier response. If the "
        "service no longer holds this version, the status is 410. Default: the live version.",
        examples=[42],
    )


class Search(TypedDict, total=False):
    """The keyword arguments of a search with the client. The client converts them to JSON."""

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
