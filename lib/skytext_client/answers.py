"""The responses of the service as typed objects."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import pandas as pd


class _Answer(BaseModel):
    """A frozen model. It accepts unknown fields, because a newer service may send more fields."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Hit(_Answer):
    """One image found by a search.

    Attributes:
        image_id: the id of the image.
        score: how well the image matches the query, as a cosine similarity from -1 to 1. In the
            modes image and image+dense, the score is None if the image has no image vector.
        rank_score: the value by which the hits are sorted.
        uri: the address of the image.
        variant: the index of the description that is nearest to the query.
        one_sentence: the short sentence in the nearest description.
        feature: the list of features in the nearest description.
        caption: the caption in the nearest description.
        datetime: the time when the image was taken. None if this time is unknown.
        bbox: the bounding box: west, south, east, north in degrees. None if the image has no box.
        gsd: the ground sample distance in metres. None if it is unknown.
        collection: the name of the image's collection. None if the image has no collection.
        cosine: the cosine similarity of the query and the nearest description.
        bm25: the BM25 score of the image's descriptions. None in modes that do not search for
            words.
        image_cosine: the cosine similarity of the query and the image vector. None if the image has
            no image vector, or if the mode does not use image vectors.
        duplicates: the ``image_id`` of each near-duplicate of this image. Empty if the search does
            not group near-duplicates.
        table: the name of the table that contains the image. None if the service has one table.
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
    """The result of a search. The object is also a sequence of its hits.

    Attributes:
        hits: the hits, best first. There are at most ``k`` hits.
        table_version: the version that was searched. If the service has several tables, this is a
            string that contains one version number per table.
        table_versions: for each table name, the version that was searched. None if the service has
            one table.
        next_cursor: the cursor for a search that returns the next page. None if there are no more
            pages.
        mode: the search mode that was used.
        note: a note for the user. None if there is nothing to note. A note exists if there are no
            hits, if no image matches well, or if there are no more pages.
        exact: true if the search scored every image that matches the filter. False if the search
            used an approximate index.
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
        """Yield each hit as a dictionary. The dictionary also contains the rank, starting at 1."""
        for rank, hit in enumerate(self.hits, start=1):
            yield {"rank": rank, **hit.model_dump()}

    def to_frame(self) -> pd.DataFrame:
        """Return the hits as a DataFrame with one row per hit. The package pandas is required."""
        import pandas as pd

        columns = ["rank", *Hit.model_fields]
        return pd.DataFrame.from_records(list(self.rows()), columns=columns)

    def to_geojson(self) -> dict[str, Any]:
        """Return the hits as a GeoJSON FeatureCollection.

        The geometry of each feature is the bounding box of the image.
        """
        from skytext_client.geojson import feature_collection

        return feature_collection(self.model_dump(mode="json"))


class BatchAnswers(_Answer):
    """The results of several searches, in the order of the searches."""

    answers: tuple[Found, ...]


class FoundImage(_Answer):
    """The table row of an image. It does not contain the vectors.

    Attributes:
        image_id: the id of the image.
        table_version: the version of the table that was read.
        table: the name of the table that contains the image. None if the service has one table.
        uri: the address of the image.
        status: the status of the image: ``ok``, ``failed`` or ``withdrawn``.
        captions: all descriptions of the image. None if the status is ``failed``.
        metadata: the metadata of the image from the archive. None if there is no metadata.
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
    """Facts about the served tables. Each count is the total for all tables."""

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
    """The live version after a promotion or a rollback, and the previous live version."""

    live_version: int
    previous_version: int | None = None
