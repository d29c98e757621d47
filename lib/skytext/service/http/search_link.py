"""The parameters of ``GET /v1/search``, which is a search as a link."""

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
    """One search. The parameters have the names of the options of ``skytext search``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: Texts = Field(
        [],
        description="What to look for, in plain words. May be repeated: each text is a separate "
        "query.",
        examples=[["ships in a harbour"]],
    )
    also: Texts = Field(
        [],
        description="Another text, in addition to `text`. May be repeated.",
        examples=[["a quay"]],
    )
    like: Images = Field(
        [],
        description="Id of an image in the table. The search finds similar images. May be "
        "repeated.",
        examples=[[EXAMPLE_ID]],
    )
    positive: Texts = Field(
        [],
        description="Move the query towards this text. May be repeated.",
        examples=[["a pier"]],
    )
    negative: Texts = Field(
        [],
        description="Move the query away from this text. May be repeated.",
        examples=[["clouds"]],
    )
    positive_image: Images = Field(
        [],
        description="Move the query towards this image of the table. May be repeated.",
        examples=[[EXAMPLE_ID]],
    )
    negative_image: Images = Field(
        [],
        description="Move the query away from this image of the table. May be repeated.",
        examples=[[EXAMPLE_ID]],
    )
    filter: FilterText | None = Field(
        None,
        description="Find only images that match this filter (CQL2 text).",
        examples=["gsd < 1"],
    )
    where: FilterText | None = Field(
        None,
        description="Another name of `filter`. Give only one of the two.",
        examples=["gsd < 1"],
    )
    bbox: str | None = Field(
        None,
        max_length=200,
        description="Find only images that intersect this box: west,south,east,north in degrees.",
        examples=["3,51,5,53"],
    )
    intersects: FilterText | None = Field(
        None,
        description="Find only images that intersect this geometry, in GeoJSON or WKT.",
        examples=["POLYGON((3 51, 5 51, 5 53, 3 51))"],
    )
    polygon: FilterText | None = Field(
        None,
        description="Another name of `intersects`. Give only one of the two.",
        examples=["POLYGON((3 51, 5 51, 5 53, 3 51))"],
    )
    after: str | None = Field(
        None,
        description="Find only images taken at or after this day or time (UTC).",
        examples=["2024-05-01"],
    )
    before: str | None = Field(
        None,
        description="Find only images taken before this day or time (UTC).",
        examples=["2024-06-01T12:00:00Z"],
    )
    collection: list[str] = Field(
        [],
        description="Find only images of this collection. May be repeated.",
        examples=[["naip"]],
    )
    gsd_min: Gsd | None = Field(
        None, description="Minimum `gsd` of the images, in metres, inclusive.", examples=[0.3]
    )
    gsd_max: Gsd | None = Field(
        None, description="Maximum `gsd` of the images, in metres, inclusive.", examples=[1]
    )
    format: Literal["json", "geojson"] | None = Field(
        None,
        description="The format of the response. Default: geojson if the header `Accept` prefers "
        "GeoJSON, else json.",
        examples=["geojson"],
    )

    def to_request(self) -> SearchRequest:
        """Return the search request, without its version.

        Raises:
            ConfigError: the request is invalid.
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
                f"{name} and {other} are names of the same parameter: give only one of the two"
            )
        given: str | None = same if value is None else value
        return given
