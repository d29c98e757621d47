"""The results of a search."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from skytext_client.search_fields import Mode


@dataclass(frozen=True, slots=True)
class Hit:
    """One image in the result of a search.

    Attributes:
        image_id: id of the image.
        score: a score from -1 to 1 that does not depend on other images. It is the cosine of the
            query and the best variant. In the modes image and image+dense, it is the cosine of the
            query and the image vector, or None if the image has no image vector.
        rank_score: the score by which the hits are sorted. Higher is better. In mode dense, it is
            the score of the pooling method `SearchConfig.dense_pooling`. In mode text, it is BM25.
            In mode hybrid, it combines the scores of dense and text, relative to the best hit. It
            is at most 1. In mode image, it is `score`. In mode image+dense, it is the mean of two
            reciprocal ranks.
        uri: address of the image.
        variant: index of the variant that is nearest to the query.
        cosine: cosine of the query and this variant. It is set in every mode.
        bm25: BM25 of the image's text. 0 if the text contains none of the query words. None if the
            search did not compare words.
        image_cosine: cosine of the query and the image vector. None if the image has no image
            vector, or if the search did not compare image vectors.
        one_sentence: the one-sentence description of this variant.
        feature: the feature description of this variant.
        caption: the caption of this variant.
        datetime: time of acquisition, or None.
        bbox: west, south, east and north in degrees, or None.
        gsd: ground sample distance in metres, or None.
        collection: name of the collection, or None.
        duplicates: the ids of near-duplicates of this image with a lower rank, if the request
            groups near-duplicates. The list can be incomplete, because it contains only images that
            were examined for this page. Near-duplicates that are not in the list do not appear on
            later pages either.
        table: address of the table that contains the image. None if only one table was searched.
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
        # Do not use `asdict`. It copies every value, and the copies take more time than the rows.
        row = {name: getattr(self, name) for name in self.__slots__}
        if self.datetime is not None:
            row["datetime"] = self.datetime.isoformat()
        if self.table is None:
            del row["table"]
        return row


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The result of a search: the hits, with the best hit first, and facts about the search.

    Attributes:
        hits: at most k hits. If there are fewer than k hits, no other image matches.
        table_version: the version that was searched. None if several tables were searched.
        mode: the search mode that was used.
        exact: true if every matching row was scored. False if an index selected the candidates.
        next_cursor: the value of `SearchRequest.cursor` for the next page. None on the last page.
        note: a text for the user, for example the reason why there are no hits. None if there is
            nothing to say.
        table_versions: the version of each table. The keys are the addresses of the tables. None if
            only one table was searched.
    """

    hits: tuple[Hit, ...]
    table_version: int | None
    mode: Mode
    exact: bool
    next_cursor: str | None = None
    note: str | None = None
    table_versions: dict[str, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that the command ``search --json`` prints."""
        several = {} if self.table_versions is None else {"table_versions": self.table_versions}
        return several | {
            "hits": [hit.to_json() for hit in self.hits],
            "table_version": self.table_version,
            "mode": self.mode,
            "exact": self.exact,
            "next_cursor": self.next_cursor,
            "note": self.note,
        }
