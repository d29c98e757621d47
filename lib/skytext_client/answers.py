"""The service's responses as typed objects."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import pandas as pd


class _Answer(BaseModel):
    """Frozen; ignores unknown fields of a newer service."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Hit(_Answer):
    """One image in the result.

    Attributes:
        image_id: the image.
        score: fit of the image: a cosine, -1 to 1. In modes image and image+dense None if the
            image has no vector of its own.
        rank_score: orders the hits.
        uri: the address of the image.
        variant: index of the matching description.
        one_sentence: of that description.
        feature: of that description.
        caption: of that description.
        datetime: time of acquisition, or None.
        bbox: west, south, east, north in degrees, or None.
        gsd: metres, or None.
        collection: or None.
        cosine: of that description.
        bm25: of the image's text; None if words were not compared.
        image_cosine: of the query and the image's own vector; None without such a vector, or if
            images were not compared.
        duplicates: image_id of near-duplicates, if they are grouped.
        table: name of its table; None if the service has one table.
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
    """The hits of a search, best first; also a sequence of them.

    Attributes:
        hits: at most k.
        table_version: the searched version; a text with one per table if there are several.
        table_versions: version of each table by name; None if the service has one table.
        next_cursor: to get the next page; None at the end.
        mode: the search mode that was used.
        note: why there are no hits, or that nothing fits well; None for nothing.
        exact: whether every matching image was scored.
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
        """Yield each hit as a dictionary, with its rank from 1."""
        for rank, hit in enumerate(self.hits, start=1):
            yield {"rank": rank, **hit.model_dump()}

    def to_frame(self) -> pd.DataFrame:
        """Return the hits as a DataFrame, one row per hit; needs pandas."""
        import pandas as pd

        columns = ["rank", *Hit.model_fields]
        return pd.DataFrame.from_records(list(self.rows()), columns=columns)

    def to_geojson(self) -> dict[str, Any]:
        """Return the hits as a GeoJSON FeatureCollection of the images' footprints."""
        from skytext_client.geojson import feature_collection

        return feature_collection(self.model_dump(mode="json"))


class BatchAnswers(_Answer):
    """One response per search, in order."""

    answers: tuple[Found, ...]


class FoundImage(_Answer):
    """The table's row of one image, without its vectors.

    Attributes:
        image_id: the image.
        table_version: the version of the row.
        table: name of its table; None if the service has one table.
        uri: the address of the image.
        status: ``ok``, ``failed`` or ``withdrawn``.
        captions: all descriptions; None for a failed image.
        metadata: from its source.
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
    """The served tables; counts are of all together."""

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
    """The live version after a promotion or a roll-back."""

    live_version: int
    previous_version: int | None = None
