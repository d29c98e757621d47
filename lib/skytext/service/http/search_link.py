"""The parameters of ``GET /v1/search``. With them, a link can contain a search."""

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
    """One search. The parameters have the same names as the options of ``skytext search``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: Texts = Field(
        [],
        description="The query text: what the images must show, in plain words. This parameter may "
        "be repeated. Each text is a separate query.",
        examples=[["ships in a harbour"]],
    )
    also: Texts = Field(
        [],
        description="Another query text, in addition to `text`. This parameter may be repeated.",
        examples=[["a quay"]],
    )
    like: Images = Field(
        [],
        description="Id of an image in the table. The search finds similar images. This parameter "
        "may be repeated.",
        examples=[[EXAMPLE_ID]],
    )
    positive: Texts = Field(
        [],
        description="Move the query towards this text. This parameter may be repeated.",
        examples=[["a pier"]],
    )
    negative: Texts = Field(
        [],
        description="Move the query away from this text. This parameter may be repeated.",
        examples=[["clouds"]],
    )
    positive_image: Images = Field(
        [],
        description="Move the query towards this image of the table. This parameter may be "
        "repeated.",
        examples=[[EXAMPLE_ID]],
    )
    negative_image: Images = Field(
        [],
        description="Move the query away from this image of the table. This parameter may be "
        "repeated.",
        examples=[[EXAMPLE_ID]],
    )
    filter: FilterText | None = Field(
        None,
        description="Find only images that match this filter (CQL2 text).",
        examples=["gsd < 1"],
    )
    where: FilterText | None = Field(
        None,
        description="Another name for the parameter `filter`. Give only one of the two parameters.",
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
        description="Another name for the parameter `intersects`. Give only one of the two "
        "parameters.",
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
        description="Find only images of this collection. This parameter may be repeated.",
        examples=[["naip"]],
    )
    gsd_min: Gsd | None = Field(
        None,
        description="Find only images with at least this ground sample distance, in metres.",
        examples=[0.3],
    )
    gsd_max: Gsd | None = Field(
        None,
        description="Find only images with at most this ground sample distance, in metres.",
        examples=[1],
    )
    format: Literal["json", "geojson"] | None = Field(
        None,
        description="The format of the response. The default is geojson if the header `Accept` "
        "prefers GeoJSON, else json.",
        examples=["geojson"],
    )

    def to_request(self) -> SearchRequest:
        """Return the search request. It does not contain the version.

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
                f"{name} and {other} are two names for the same parameter: give only one of them"
            )
        given: str | None = same if value is None else value
        return given
