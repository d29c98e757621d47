"""The results of a search."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from skytext_client.search_fields import Mode


@dataclass(frozen=True, slots=True)
class Hit:
    """One image in the result.

    Attributes:
        image_id: the image.
        score: fit of the image by itself: cosine of the query and the best variant, -1 to 1. In
            modes image and image+dense: cosine of the query and the image's own vector, None
            without one.
        rank_score: orders the hits, higher is better. Dense: `score` (or the pooling of
            `SearchConfig.dense_pooling`). Text: BM25. Hybrid: both fused, at most 1 and relative
            to the best hit. Image: `score`. Image+dense: the mean of two reciprocal ranks.
        uri: the address of the image.
        variant: index of the variant that is nearest to the query.
        cosine: of that variant, in every mode.
        bm25: of the image's text; 0 if it contains none of the words. None if words were not
            compared.
        image_cosine: of the query and the image's own vector; None without such a vector, or if
            images were not compared.
        one_sentence: of that variant.
        feature: of that variant.
        caption: of that variant.
        datetime: time of acquisition, or None.
        bbox: west, south, east, north in degrees, or None.
        gsd: metres, or None.
        collection: or None.
        duplicates: with grouping, image_id of lower-ranked near-duplicates, as far as they were
            examined for this page. Near-duplicates that rank even lower do not appear on later
            pages either.
        table: the address of its table if several are searched; else None.
    """

    image_id: str
    score: float | None
    rank_score: float
    uri: str
    variant: int
    cosine: float
    bm25: float | None
    image_cosine: float | None
    one_sentence: str
    feature: str
    caption: str
    datetime: dt.datetime | None
    bbox: tuple[float, float, float, float] | None
    gsd: float | None
    collection: str | None
    duplicates: tuple[str, ...] = ()
    table: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the hit as a JSON object."""
        # `asdict` copies every value, which takes longer than fetching the rows.
        row = {name: getattr(self, name) for name in self.__slots__}
        if self.datetime is not None:
            row["datetime"] = self.datetime.isoformat()
        if self.table is None:
            del row["table"]
        return row


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The hits, best first, and facts about the search.

    Attributes:
        hits: at most k; fewer only if no more images match.
        table_version: the version that was searched; None for several tables.
        mode: the mode that was used.
        exact: whether every matching row was scored; False if an index chose the candidates.
        next_cursor: for `SearchRequest.cursor`, to get the next page; None at the end.
        note: why there are no hits, or another fact for the user; None for nothing.
        table_versions: the version of each table by its address, if several were searched.
    """

    hits: tuple[Hit, ...]
    table_version: int | None
    mode: Mode
    exact: bool
    next_cursor: str | None = None
    note: str | None = None
    table_versions: dict[str, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON of the command ``search --json``."""
        several = {} if self.table_versions is None else {"table_versions": self.table_versions}
        return several | {
            "hits": [hit.to_json() for hit in self.hits],
            "table_version": self.table_version,
            "mode": self.mode,
            "exact": self.exact,
            "next_cursor": self.next_cursor,
            "note": self.note,
        }
