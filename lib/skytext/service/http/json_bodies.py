"""The JSON bodies of requests and responses."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from skytext.filters.cql2_text import MAX_TEXT_CHARS
from skytext.filters.options import make_filter
from skytext.search.request import (
    MAX_EXAMPLES,
    MAX_QUERIES,
    MAX_QUERY_CHARS,
    Example,
    SearchRequest,
)
from skytext_client import geojson
from skytext_client.search_fields import Mode, Version, VersionedFields, VersionToken

IMAGE_ID = r"^[0-9a-f]{32}$"
SCHEMAS = "#/components/schemas/{model}"
"""The reference to the schema of a model in the OpenAPI document."""

EXAMPLE_ID = "9f86d081884c7d659a2feaa0c55ad015"
_HIT: dict[str, Any] = {
    "image_id": EXAMPLE_ID,
    "score": 0.713,
    "rank_score": 0.713,
    "uri": "s3://archive/tiles/0007.tar#harbour_12.jpg",
    "variant": 2,
    "cosine": 0.713,
    "bm25": None,
    "image_cosine": None,
    "one_sentence": "Ships lie at two quays of a harbour.",
    "feature": "two quays; nine ships; a breakwater",
    "caption": "A harbour basin with two quays, nine ships and a breakwater.",
    "datetime": "2024-05-31T10:12:00+00:00",
    "bbox": [4.05, 51.92, 4.07, 51.94],
    "gsd": 0.5,
    "collection": "naip",
}
_ANSWER: dict[str, Any] = {
    "hits": [_HIT],
    "table_version": 42,
    "mode": "dense",
    "next_cursor": None,
    "note": None,
    "exact": False,
}
_TABLE: dict[str, Any] = {
    "name": "aerial-2024",
    "table_version": 42,
    "live_version": 42,
    "latest_version": 44,
    "created_at": "2024-06-01T03:10:00+00:00",
    "num_ok": 999_987,
    "num_failed": 13,
    "num_unindexed": 0,
    "caption_models": ["llava-hf/llava-1.5-7b-hf"],
    "filter_columns": ["datetime", "bbox", "gsd", "collection"],
}

Query = Annotated[str, Field(min_length=1, max_length=MAX_QUERY_CHARS)]
ImageId = Annotated[str, Field(pattern=IMAGE_ID, examples=[EXAMPLE_ID])]
FilterText = Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARS)]


class SearchBody(VersionedFields):
    """One search."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [
                {"text": "storage tanks beside a river", "k": 10},
                {
                    "text": "ships in a harbour",
                    "mode": "hybrid",
                    "filter": "gsd < 1 AND S_INTERSECTS(geometry, BBOX(3, 51, 5, 53))",
                },
                {
                    "like": [EXAMPLE_ID],
                    "negative": [{"text": "clouds"}],
                    "filter": {
                        "op": ">=",
                        "args": [{"property": "datetime"}, {"date": "2024-05-01"}],
                    },
                    "intersects": {
                        "type": "Polygon",
                        "coordinates": [[[3, 51], [5, 51], [5, 53], [3, 51]]],
                    },
                },
            ]
        },
    )

    text: Query | None = Field(
        None, description="The query text: what the images must show, in plain words."
    )
    texts: tuple[Query, ...] = Field(
        (), max_length=MAX_QUERIES, description="More query texts, in addition to `text`."
    )
    like: tuple[ImageId, ...] = Field(
        (),
        max_length=MAX_QUERIES,
        description="Ids of images in the table. The search finds similar images.",
    )
    positive: tuple[Example, ...] = Field(
        (), max_length=MAX_EXAMPLES, description="Move the query towards these texts or images."
    )
    negative: tuple[Example, ...] = Field(
        (), max_length=MAX_EXAMPLES, description="Move the query away from these texts or images."
    )
    filter: FilterText | dict[str, Any] | None = Field(
        None,
        description="Find only images that match this filter. The filter is CQL2 JSON or CQL2 "
        "text, for example `gsd < 1 AND metadata.cloud <= 10`.",
    )
    intersects: dict[str, Any] | None = Field(
        None, description="Find only images that intersect this GeoJSON geometry."
    )

    def to_request(self) -> SearchRequest:
        """Return the search request. It does not contain the version.

        Raises:
            ConfigError: the request is invalid.
        """
        where = make_filter(where=self.filter, intersects=self.intersects)
        own = ("filter", "intersects", "version")
        given = {name: value for name, value in self if name not in own}
        return SearchRequest.model_validate({**given, "where": where})


class BatchBody(BaseModel):
    """Several searches. All of them run in the same version of the table."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"examples": [{"searches": [{"text": "a river"}, {"text": "a port"}]}]},
    )

    searches: tuple[SearchBody, ...] = Field(
        min_length=1,
        description="The searches. The setting `service.limits.max_batch` limits their number. If "
        "there are more searches, the status is 413.",
    )


class HitModel(BaseModel):
    """One image found by a search."""

    model_config = ConfigDict(extra="allow")

    image_id: str
    score: float | None = Field(
        description="How well the image matches the query. This is the cosine similarity of the "
        "query and the nearest description. In the modes image and image+dense, it is the cosine "
        "similarity of the query and the image vector, or null if the image has no image vector."
    )
    rank_score: float = Field(
        description="The value by which the hits are sorted. In the mode hybrid, it combines the "
        "scores of dense and text, relative to the best hit. In the mode image+dense, it is "
        "computed from ranks."
    )
    uri: str
    variant: int = Field(description="Index of the description that is nearest to the query.")
    cosine: float = Field(
        description="Cosine similarity of the query and the nearest description, in every mode."
    )
    bm25: float | None = Field(
        None,
        description="BM25 score of the descriptions of the image. Null in modes that do not search "
        "for words.",
    )
    image_cosine: float | None = Field(
        None,
        description="Cosine similarity of the query and the image vector. Null if the image has no "
        "image vector, or if the mode does not use image vectors.",
    )
    one_sentence: str
    feature: str
    caption: str
    datetime: dt.datetime | None = None
    bbox: tuple[float, float, float, float] | None = Field(
        None,
        description="Bounding box of the image: west, south, east, north in degrees. If west > "
        "east, the box crosses the antimeridian.",
    )
    gsd: float | None = None
    collection: str | None = None
    duplicates: list[str] = Field(
        default=[],
        description="Ids of the near-duplicates of this image. Empty if the search does not group "
        "near-duplicates.",
    )
    table: str | None = Field(
        None,
        description="Name of the table that contains the image. Null if one table is served.",
    )


class SearchAnswer(BaseModel):
    """The hits of a search, best first, and the table version that was searched."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={"example": _ANSWER},
    )

    hits: list[HitModel]
    table_version: VersionToken
    table_versions: dict[str, int] | None = Field(
        None,
        description="For each table name, the version that was searched. Null if one table is "
        "served.",
    )
    mode: Mode = Field(description="The search mode that was used.")
    next_cursor: str | None = None
    note: str | None = Field(
        None,
        description="A note for the user. It exists if there are no hits, if no image matches "
        "well, or if there are no more pages.",
    )
    exact: bool = Field(
        description="True if the search scored every image that matches the filter. False if the "
        "search used an approximate index."
    )


class BatchAnswer(BaseModel):
    """One result for each search, in the order of the searches."""

    model_config = ConfigDict(json_schema_extra={"example": {"answers": [_ANSWER]}})

    answers: list[SearchAnswer]


class ImageSearchAnswer(SearchAnswer):
    """The hits of a search by an uploaded image, and the descriptions of the uploaded image."""

    model_config = ConfigDict(
        json_schema_extra={"example": {**_ANSWER, "queries": ["Ships lie in a harbour."]}}
    )

    queries: list[str] = Field(
        description="Descriptions of the uploaded image that were used as queries."
    )


class VariantModel(BaseModel):
    """One description of an image."""

    one_sentence: str
    feature: str
    caption: str
    finish_reason: str | None = None


class ImageModel(BaseModel):
    """The table row of an image, without the vectors."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "example": {
                "image_id": EXAMPLE_ID,
                "table_version": 42,
                "uri": _HIT["uri"],
                "status": "ok",
                "captions": [
                    {
                        "one_sentence": _HIT["one_sentence"],
                        "feature": _HIT["feature"],
                        "caption": _HIT["caption"],
                        "finish_reason": "stop",
                    }
                ],
                "metadata": {"cloud": 10},
                "width_px": 1024,
                "height_px": 1024,
                "format": "jpeg",
                "caption_model": "llava-hf/llava-1.5-7b-hf",
            }
        },
    )

    image_id: str
    table_version: VersionToken
    table: str | None = Field(
        None,
        description="Name of the table that contains the image. Null if one table is served.",
    )
    uri: str
    status: Literal["ok", "failed", "withdrawn"]
    captions: list[VariantModel] | None = None
    metadata: dict[str, Any] | None = None


class OneTableModel(BaseModel):
    """One of the served tables."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"example": _TABLE})

    name: str = Field(
        description="The name of the table: the last part of its address. If several tables are "
        "served, the field `table` of a hit contains this name."
    )
    table_version: int
    live_version: int | None
    latest_version: int
    created_at: dt.datetime
    num_ok: int
    num_failed: int
    num_unindexed: int | None
    caption_models: list[str]
    filter_columns: list[str]


class TableModel(BaseModel):
    """The served tables."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "table_version": 42,
                "live_version": 42,
                "pinned": False,
                "created_at": "2024-06-01T03:10:00+00:00",
                "num_ok": 999_987,
                "num_failed": 13,
                "num_unindexed": 0,
                "latest_version": 44,
                "canary_version": None,
                "embedding_model": "BAAI/bge-base-en-v1.5",
                "image_model": None,
                "no_image_search": None,
                "caption_models": ["llava-hf/llava-1.5-7b-hf"],
                "max_k": 1000,
                "has_captioner": False,
                "modes": ["dense", "text", "hybrid"],
                "default_mode": "hybrid",
                "filter_columns": ["datetime", "bbox", "gsd", "collection"],
                "tables": [_TABLE],
            }
        }
    )

    table_version: VersionToken
    live_version: VersionToken | None = Field(
        description="The promoted version. Null if a table has no promoted version."
    )
    pinned: bool = Field(
        description="True if the setting `service.version` determines the served version."
    )
    created_at: dt.datetime = Field(description="The time when the served version was committed.")
    num_ok: int
    num_failed: int
    num_unindexed: int | None = Field(
        description="Number of rows that are not in the vector index. Null if there is no vector "
        "index."
    )
    latest_version: VersionToken = Field(
        description="The latest version of the table. If it is greater than table_version, it is "
        "not promoted yet."
    )
    canary_version: int | None = Field(
        description="The version of the canary. A canary answers a share of the searches before it "
        "becomes live. Null if no canary is running."
    )
    embedding_model: str
    image_model: str | None = Field(
        description="The model that computed the image vectors. Null if there are no image vectors."
    )
    no_image_search: str | None = Field(
        description="The reason why the modes image and image+dense are not available although the "
        "table has image vectors. Null if these modes are available, or if there are no image "
        "vectors."
    )
    caption_models: list[str]
    max_k: int
    has_captioner: bool
    modes: list[Mode] = Field(
        description="The available search modes. The modes text and hybrid need a full-text index. "
        "The modes image and image+dense need image vectors."
    )
    default_mode: Mode = Field(description="The mode of a search without the field `mode`.")
    filter_columns: list[str] = Field(
        description="Names of the columns that have a value in at least one row. Only the columns "
        "datetime, bbox, gsd and collection are checked."
    )
    tables: list[OneTableModel] = Field(
        description="Facts about each table. All other fields contain facts about all tables "
        "together."
    )


class PromoteBody(BaseModel):
    """The version to make live."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"version": 42}]})

    version: Version | None = Field(
        None, description="The version to promote. Default: the latest version of the table."
    )
    table: str | None = Field(
        None,
        description="Name of the table. The name is required if several tables are served.",
    )


class RollbackBody(BaseModel):
    """The table to roll back."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}]})

    table: str | None = Field(
        None,
        description="Name of the table. The name is required if several tables are served.",
    )


class PromotionModel(BaseModel):
    """The live version after a promotion or a rollback, and the previous live version."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"live_version": 42, "previous_version": 40}}
    )

    live_version: int
    previous_version: int | None


class HealthModel(BaseModel):
    """The response that shows that the process is running."""

    model_config = ConfigDict(json_schema_extra={"example": {"status": "ok"}})

    status: Literal["ok"] = "ok"


class ReadyModel(BaseModel):
    """The response that shows that the service can answer searches without delay."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"status": "ok", "table_version": 42, "no_image_search": None}
        }
    )

    status: Literal["ok"] = "ok"
    table_version: VersionToken
    no_image_search: str | None = Field(
        None,
        description="The reason why the modes image and image+dense are not available although the "
        "table has image vectors. Null if these modes are available, or if there are no image "
        "vectors.",
    )


class GeometryModel(BaseModel):
    """A GeoJSON geometry (RFC 7946)."""

    type: Literal["Point", "LineString", "MultiLineString", "Polygon", "MultiPolygon"]
    coordinates: list[Any]


class FeatureModel(BaseModel):
    """A hit as a GeoJSON Feature. The geometry is the bounding box of the image."""

    type: Literal["Feature"] = "Feature"
    id: str
    bbox: list[float] | None = None
    geometry: GeometryModel | None
    properties: dict[str, Any]


class FeatureCollectionModel(BaseModel):
    """The hits as a GeoJSON FeatureCollection (RFC 7946)."""

    model_config = ConfigDict(json_schema_extra={"example": geojson.feature_collection(_ANSWER)})

    type: Literal["FeatureCollection"] = "FeatureCollection"
    features: list[FeatureModel]
    table_version: VersionToken
    next_cursor: str | None = None
