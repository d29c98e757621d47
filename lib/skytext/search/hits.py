"""What a search finds."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from skytext_client.search_fields import Mode


@dataclass(frozen=True, slots=True)
class Hit:
    """One image that was found.

    Attributes:
        image_id: the image.
        score: how well the image fits, by itself: cosine of the query and the best variant, -1 to
            1; in modes image and image+dense cosine of the query and the image's own vector, and
            None where it has none.
        rank_score: orders the hits, higher is better. Dense: `score` (or what
            `SearchConfig.dense_pooling` says instead). Text: BM25. Hybrid: both fused, at most 1
            and relative to the best hit. Image: `score`. Image+dense: the mean of two reciprocal
            ranks.
        uri: where the image lies.
        variant: index of the variant that is nearest to the query.
        cosine: of that variant, whatever the mode.
        bm25: of the image's text; 0 where no word is in it. None where words were not compared.
        image_cosine: of the query and the image's own vector; None where the image has none, or
            where images were not compared.
        one_sentence: of that variant.
        feature: of that variant.
        caption: of that variant.
        datetime: when the image was taken, or None.
        bbox: west, south, east, north in degrees, or None.
        gsd: metres, or None.
        collection: or None.
        duplicates: image_id of near-duplicates that rank behind it, where they are grouped: of
            those that were looked at for this page. What ranks further behind is no hit of a later
            page either.
        table: the address of its table, where several are searched; None elsewhere.
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
        # Not by `asdict`, which copies every value: that takes longer than a fetch of the rows.
        row = {name: getattr(self, name) for name in self.__slots__}
        if self.datetime is not None:
            row["datetime"] = self.datetime.isoformat()
        if self.table is None:
            del row["table"]
        return row


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The hits, best first, and how they were found.

    Attributes:
        hits: at most k; fewer only where no more match.
        table_version: that they are of; None where several tables were searched.
        mode: that was searched in.
        exact: whether every matching row was scored; False where an index chose which.
        next_cursor: for `SearchRequest.cursor`, to go on; None where nothing is left.
        note: why there are no hits, or what else a person should know; None for nothing.
        table_versions: the version of each table by its address, where several were searched.
    """

    hits: tuple[Hit, ...]
    table_version: int | None
    mode: Mode
    exact: bool
    next_cursor: str | None = None
    note: str | None = None
    table_versions: dict[str, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the command line's ``search --json``."""
        several = {} if self.table_versions is None else {"table_versions": self.table_versions}
        return several | {
            "hits": [hit.to_json() for hit in self.hits],
            "table_version": self.table_version,
            "mode": self.mode,
            "exact": self.exact,
            "next_cursor": self.next_cursor,
            "note": self.note,
        }
