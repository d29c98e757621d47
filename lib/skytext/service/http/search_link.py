"""A search as a link: the parameters of ``GET /v1/search``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from skytext.errors import ConfigError
from skytext.filters.options import make_filter
from skytext.geo.shapes import parse_geometry
from skytext.search.request import MAX_K, MAX_QUERIES, Combine, Mode, SearchRequest
from skytext.service.http.json_bodies import (
    EXAMPLE_ID,
    MAX_CURSOR_CHARS,
    FilterText,
    ImageId,
    Query,
    Version,
)

_CURSOR = "WzEsNDIsIjhmMGM0ZWYyM2MxYjRkMGQiLDIwLDAuNjEzLDcsbnVsbF0"
Texts = Annotated[list[Query], Field(max_length=MAX_QUERIES)]
Images = Annotated[list[ImageId], Field(max_length=MAX_QUERIES)]
Gsd = Annotated[float, Field(allow_inf_nan=False)]


class SearchLink(BaseModel):
    """One search: the names are those of the options of ``skytext search``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: Texts = Field(
        [],
        description="What to look for, in plain words; may be repeated: each is a query of its "
        "own.",
        examples=[["ships in a harbour"]],
    )
    also: Texts = Field([], description="The same as a further `text`.", examples=[["a quay"]])
    like: Images = Field(
        [], description="More like this image; may be repeated.", examples=[[EXAMPLE_ID]]
    )
    combine: Combine = Field(
        "max", description="How several queries make one answer.", examples=["mean"]
    )
    positive: Texts = Field(
        [], description="Move the query towards these words …", examples=[["a pier"]]
    )
    negative: Texts = Field([], description="… and away from these.", examples=[["clouds"]])
    positive_image: Images = Field(
        [], description="Towards this image of the table …", examples=[[EXAMPLE_ID]]
    )
    negative_image: Images = Field(
        [], description="… and away from this one.", examples=[[EXAMPLE_ID]]
    )
    mode: Mode | None = Field(None, description="Default: configured.", examples=["hybrid"])
    k: int = Field(10, ge=1, le=MAX_K, description="Hits wanted.", examples=[20])
    filter: FilterText | None = Field(
        None, description="Only images that fulfil this.", examples=["gsd < 1"]
    )
    where: FilterText | None = Field(
        None, description="Another name of `filter`; give one of them.", examples=["gsd < 1"]
    )
    bbox: str | None = Field(
        None,
        max_length=200,
        description="Only images that meet this box: west,south,east,north in degrees.",
        examples=["3,51,5,53"],
    )
    intersects: FilterText | None = Field(
        None,
        description="Only images that meet this geometry, in GeoJSON or WKT.",
        examples=["POLYGON((3 51, 5 51, 5 53, 3 51))"],
    )
    after: str | None = Field(
        None, description="From this day or time on (UTC).", examples=["2024-05-01"]
    )
    before: str | None = Field(
        None, description="Before this day or time (UTC).", examples=["2024-06-01T12:00:00Z"]
    )
    collection: list[str] = Field(
        [], description="Only images of this collection; may be repeated.", examples=[["naip"]]
    )
    gsd_min: Gsd | None = Field(None, description="Metres, inclusive.", examples=[0.3])
    gsd_max: Gsd | None = Field(None, description="Metres, inclusive.", examples=[1])
    cursor: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_CURSOR_CHARS,
        description="`next_cursor` of the same search: go on behind its last hit.",
        examples=[_CURSOR],
    )
    min_score: Annotated[float, Field(ge=-1, le=1)] | None = Field(
        None, description="Only hits with this `score` at least.", examples=[0.4]
    )
    version: Version | None = Field(
        None,
        description="Of the table; 410 where it is no longer held. Default: the live one.",
        examples=[42],
    )
    group_duplicates: bool = Field(
        False, description="Near-duplicates become one hit.", examples=[True]
    )
    exact: bool = Field(False, description="Score every row, index or not.", examples=[True])
    format: Literal["json", "geojson"] | None = Field(
        None, description="Default: what `Accept` prefers, else json.", examples=["geojson"]
    )

    def to_request(self) -> SearchRequest:
        """Return the search that is asked for, of whatever version.

        Raises:
            ConfigError: it cannot be meant.
        """
        if self.filter is not None and self.where is not None:
            raise ConfigError("filter and where are two names of one parameter: give one of them")
        texts = (*self.text, *self.also)
        return SearchRequest.from_json(
            {
                "text": texts[0] if texts else None,
                "texts": texts[1:],
                "like": self.like,
                "combine": self.combine,
                "positive": _examples(self.positive, self.positive_image),
                "negative": _examples(self.negative, self.negative_image),
                "mode": self.mode,
                "k": self.k,
                "where": make_filter(
                    where=self.filter or self.where,
                    bbox=None if self.bbox is None else _box(self.bbox),
                    intersects=None if self.intersects is None else parse_geometry(self.intersects),
                    after=self.after,
                    before=self.before,
                    collections=self.collection,
                    gsd_min=self.gsd_min,
                    gsd_max=self.gsd_max,
                ),
                "cursor": self.cursor,
                "min_score": self.min_score,
                "group_duplicates": self.group_duplicates,
                "exact": self.exact,
            }
        )


def _examples(texts: list[str], images: list[str]) -> list[dict[str, str]]:
    return [{"text": text} for text in texts] + [{"image_id": image} for image in images]


def _box(text: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 4:
        raise ConfigError("bbox must be west,south,east,north: four numbers with commas")
    return numbers
