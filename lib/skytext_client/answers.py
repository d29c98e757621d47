"""The responses of the service as typed objects."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import pandas as pd


class _Answer(BaseModel):
    """A frozen model that also accepts fields that only a newer service sends."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Hit(_Answer):
    """One image found by a search.

    Attributes:
        image_id: the id of the image.
        score: how well the image matches the query: a cosine similarity, -1 to 1. In the modes
            image and image+dense it is None if the image has no image vector.
        rank_score: the value that sorts the hits.
        uri: the address of the image.
        variant: the index of the description nearest to the query.
        one_sentence: the sentence of the nearest description.
        feature: the features of the nearest description.
        caption: the caption of the nearest description.
        datetime: the time of acquisition, or None.
        bbox: west, south, east, north in degrees, or None.
        gsd: the ground sample distance in metres, or None.
        collection: the collection of the image, or None.
        cosine: the cosine similarity of the query and the nearest description.
        bm25: the BM25 score of the image's descriptions. None in modes that do not search words.
        image_cosine: the cosine similarity of the query and the image vector. None if the image has
            no image vector, or in modes that do not use image vectors.
        duplicates: the ``image_id`` of each near-duplicate, if the search groups near-duplicates.
        table: the name of the image's table. None if the service has one table.
    """

    image_id: str
    score: float | None
    rank_score: float
    uri: str
    variant: int
    one_sentence: str
    feature: str
    caption: str
    datetime: dt.datetime | None = None
    bbox: tuple[float, float, float, float] | None = None
    gsd: float | None = None
    collection: str | None = None
    cosine: float | None = None
    bm25: float | None = None
    image_cosine: float | None = None
    duplicates: tuple[str, ...] = ()
    table: str | None = None


class Found(_Answer):
    """The hits of a search, best first. The object is also a sequence of hits.

    Attributes:
        hits: at most k hits.
        table_version: the version that was searched. If the service has several tables, this is a
            string with the version of each table.
        table_versions: the version of each table, by table name. None if the service has one table.
        next_cursor: the cursor to get the next page. None if there are no more hits.
        mode: the search mode that was used.
        note: a note for the user if there are no hits, if no image matches well, or if there are no
            more pages. Else None.
        exact: whether every image that matches the filter was scored, without an approximate index.
    """

    hits: tuple[Hit, ...]
    table_version: int | str
    table_versions: dict[str, int] | None = None
    next_cursor: str | None = None
    mode: str | None = None
    note: str | None = None
    exact: bool

    def __len__(self) -> int:
        return len(self.hits)

    def __getitem__(self, index: int) -> Hit:
        return self.hits[index]

    def __iter__(self) -> Iterator[Hit]:  # type: ignore[override]
        return iter(self.hits)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield each hit as a dictionary that also contains its rank, from 1."""
        for rank, hit in enumerate(self.hits, start=1):
            yield {"rank": rank, **hit.model_dump()}

    def to_frame(self) -> pd.DataFrame:
        """Return the hits as a DataFrame, one row per hit. This needs pandas."""
        import pandas as pd

        columns = ["rank", *Hit.model_fields]
        return pd.DataFrame.from_records(list(self.rows()), columns=columns)

    def to_geojson(self) -> dict[str, Any]:
        """Return the hits as a GeoJSON FeatureCollection. The geometries are the bounding boxes."""
        from skytext_client.geojson import feature_collection

        return feature_collection(self.model_dump(mode="json"))


class BatchAnswers(_Answer):
    """The result of each search, in the order of the searches."""

    answers: tuple[Found, ...]


class FoundImage(_Answer):
    """The table row of an image, without the vectors.

    Attributes:
        image_id: the id of the image.
        table_version: the table version that was read.
        table: the name of the image's table. None if the service has one table.
        uri: the address of the image.
        status: ``ok``, ``failed`` or ``withdrawn``.
        captions: all descriptions of the image. None if the status is ``failed``.
        metadata: the metadata of the image from the archive, or None.
    """

    image_id: str
    table_version: int | str
    table: str | None = None
    uri: str
    status: str
    captions: tuple[dict[str, Any], ...] | None = None
    metadata: dict[str, Any] | None = None


class OneTable(_Answer):
    """One of the served tables."""

    name: str
    table_version: int
    live_version: int | None
    latest_version: int
    num_ok: int
    num_failed: int


class TableInfo(_Answer):
    """Facts about the served tables. Each count is the sum over all tables."""

    table_version: int | str
    live_version: int | str | None
    latest_version: int | str
    canary_version: int | None = None
    tables: tuple[OneTable, ...] = ()
    created_at: dt.datetime
    num_ok: int
    num_failed: int
    embedding_model: str
    image_model: str | None = None
    no_image_search: str | None = None
    modes: tuple[str, ...] = ()
    caption_models: tuple[str, ...]
    has_captioner: bool


class Promotion(_Answer):
    """The live version after a promotion or a rollback, and the live version before it."""

    live_version: int
    previous_version: int | None = None
