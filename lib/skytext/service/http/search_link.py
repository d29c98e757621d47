"""A search as a link: the parameters of ``GET /v1/search``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from skytext.errors import ConfigError
from skytext.geo.shapes import parse_geometry
from skytext.search.options import request_fields
from skytext.search.request import MAX_QUERIES, SearchRequest
from skytext.service.http.json_bodies import EXAMPLE_ID, FilterText, ImageId, Query
from skytext_client.search_fields import VersionedFields

Texts = Annotated[list[Query], Field(max_length=MAX_QUERIES)]
Images = Annotated[list[ImageId], Field(max_length=MAX_QUERIES)]
Gsd = Annotated[float, Field(allow_inf_nan=False)]


class SearchLink(VersionedFields):
    """One search; the parameters have the names of the options of ``skytext search``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: Texts = Field(
        [],
        description="What to look for, in plain words; may be repeated: each is a separate query.",
        examples=[["ships in a harbour"]],
    )
    also: Texts = Field([], description="The same as a further `text`.", examples=[["a quay"]])
    like: Images = Field(
        [], description="More like this image; may be repeated.", examples=[[EXAMPLE_ID]]
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
    filter: FilterText | None = Field(
        None, description="Only images that match this filter.", examples=["gsd < 1"]
    )
    where: FilterText | None = Field(
        None, description="Another name of `filter`; use one of them.", examples=["gsd < 1"]
    )
    bbox: str | None = Field(
        None,
        max_length=200,
        description="Only images that intersect this box: west,south,east,north in degrees.",
        examples=["3,51,5,53"],
    )
    intersects: FilterText | None = Field(
        None,
        description="Only images that intersect this geometry, in GeoJSON or WKT.",
        examples=["POLYGON((3 51, 5 51, 5 53, 3 51))"],
    )
    polygon: FilterText | None = Field(
        None,
        description="Another name of `intersects`; use one of them.",
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
    format: Literal["json", "geojson"] | None = Field(
        None,
        description="Default: the format that `Accept` prefers, else json.",
        examples=["geojson"],
    )

    def to_request(self) -> SearchRequest:
        """Return the search request, without its version.

        Raises:
            ConfigError: an invalid request.
        """
        geometry = self._one_of("intersects", "polygon")
        options = dict(self) | {
            "where": self._one_of("filter", "where"),
            "intersects": None if geometry is None else parse_geometry(geometry),
        }
        return SearchRequest.from_json(request_fields(options))

    def _one_of(self, name: str, other: str) -> str | None:
        """Return the value of a parameter that has two names."""
        value, same = getattr(self, name), getattr(self, other)
        if value is not None and same is not None:
            raise ConfigError(
                f"{name} and {other} are names of the same parameter: use one of them"
            )
        given: str | None = same if value is None else value
        return given
