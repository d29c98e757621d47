"""Search a table in plain words (no Ray).

The rule is the paper's (arXiv 2512.10596): query and descriptions are embedded as text, and an
image scores by the cosine of the best of its variants.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytext.config import EmbedConfig, IndexConfig
from skytext.errors import CallError, ConfigError, TableError
from skytext.filters import Condition, Need
from skytext.models.embedder import Embedder
from skytext.models.factory import make_table_embedder
from skytext.table.images import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.query import (
    has_any,
    has_vector_index,
    metadata_names,
    nearest,
    nearest_where,
)

MAX_K = 1000
_KINDS = {
    "number": "a number",
    "text": "text (numbers stand without quotes)",
    "boolean": "true or false",
    "time": "a time",
}
_COLUMNS = ["image_id", "uri", "captions", "datetime", "bbox", "gsd", "collection"]


@dataclass(frozen=True, slots=True)
class Hit:
    """One image that was found.

    Attributes:
        image_id: the image.
        score: cosine of the query and the best variant, -1 to 1; higher is better.
        uri: where the image lies.
        variant: index of the variant that matched.
        one_sentence: of that variant.
        feature: of that variant.
        caption: of that variant.
        datetime: when the image was taken, or None.
        bbox: west, south, east, north in degrees, or None.
        gsd: metres, or None.
        collection: or None.
    """

    image_id: str
    score: float
    uri: str
    variant: int
    one_sentence: str
    feature: str
    caption: str
    datetime: dt.datetime | None
    bbox: tuple[float, float, float, float] | None
    gsd: float | None
    collection: str | None

    def to_json(self) -> dict[str, Any]:
        """Return the hit as a JSON object."""
        row = asdict(self)
        if self.datetime is not None:
            row["datetime"] = self.datetime.isoformat()
        return row


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The hits, best first, and the version that they are of."""

    hits: tuple[Hit, ...]
    table_version: int
    exact: bool

    def to_json(self) -> dict[str, Any]:
        """Return the command line's ``search --json``."""
        return {
            "hits": [hit.to_json() for hit in self.hits],
            "table_version": self.table_version,
            "exact": self.exact,
        }


class Searcher:
    """Searches one version of one table.

    Args:
        table: the version.
        embedder: of the model that the table was embedded with.
        config: probes and refinement of indexed searches.
    """

    def __init__(
        self, table: ImagesTable, embedder: Embedder, config: IndexConfig | None = None
    ) -> None:
        if embedder.dim != table.identity.dim:
            raise TableError(
                f"{table.location.uri} holds vectors of {table.identity.dim} numbers, the embedder "
                f"makes {embedder.dim}: search with the model that the table was embedded with"
            )
        self.table = table
        self.has_index = has_vector_index(table)
        self._embedder = embedder
        self._config = config or IndexConfig()
        self._there: set[Need] = set()

    @classmethod
    def open(
        cls,
        table: str,
        *,
        version: int | None = None,
        embedding_model: str | None = None,
        embed: EmbedConfig | None = None,
        index: IndexConfig | None = None,
    ) -> Searcher:
        """Open a table and load the model that it was embedded with.

        Args:
            table: folder or URI.
            version: None for the promoted version, or the latest where none is promoted.
            embedding_model: where the table's model is now, if its name no longer leads to it.
            embed: how the model runs; which one it is, the table says.
            index: probes and refinement.

        Raises:
            TableError: there is no such table or version, or the model is another than its own.
            ModelError: the model cannot be loaded.
        """
        location = TableLocation.parse(table)
        opened = (
            ImagesTable.open_served(location)
            if version is None
            else ImagesTable.open(location, version)
        )
        identity = opened.identity
        embedder = make_table_embedder(
            location.uri,
            model=identity.embedding_model,
            revision=identity.embedding_revision,
            fingerprint=identity.embedding_fingerprint,
            embed=embed,
            named=embedding_model,
        )
        return cls(opened, embedder, index)

    def search(
        self, text: str, k: int = 10, *, exact: bool = False, where: Condition | None = None
    ) -> SearchResult:
        """Find the images that fit ``text`` best.

        Args:
            text: plain words.
            k: hits wanted, 1 to 1000.
            exact: score every row even where there is an index.
            where: only images that it lets through are looked at; see `skytext.filters`. All of
                them are found, if they are fewer than ``k``.

        Raises:
            CallError: an empty text, ``k`` out of range, or a filter on what no image has.
        """
        if not text.strip():
            raise CallError("the query is empty: say in words what to look for")
        if not 1 <= k <= MAX_K:
            raise ConfigError(f"k must be 1 to {MAX_K} (given: {k})")
        vector = self._embedder.embed_queries([text])[0]
        exact = exact or not self.has_index
        if where is None:
            rows = nearest(self.table, vector, k, _COLUMNS, config=self._config, exact=exact)
        else:
            self._check_filter(where)
            rows, exact = nearest_where(
                self.table, vector, k, _COLUMNS, config=self._config, exact=exact, where=where
            )
        found = [_hit(row, vector) for row in rows.to_pylist()]
        hits = sorted(found, key=lambda hit: -hit.score)
        return SearchResult(tuple(hits), self.table.version, exact)

    def _check_filter(self, where: Condition) -> None:
        """Refuse a filter on what no image has: its answer would say nothing of the images."""
        for need in where.needs():
            if need in self._there:
                continue
            if has_any(self.table, need):
                self._there.add(need)
                continue
            kind = "" if need.kind is None else f" as {_KINDS[need.kind]}"
            message = f"no image of {self.table.location.uri} has {need.name}{kind}"
            if need.name.startswith("metadata."):
                names = metadata_names(self.table)
                there = ", ".join(names) if names else "nothing"
                message += f" (the first images' metadata: {there})"
            raise CallError(message)


def _hit(row: dict[str, Any], query: NDArray[np.float32]) -> Hit:
    variant, score = best_variant(query, row["vectors"])
    caption = row["captions"][variant]
    box = row["bbox"]
    return Hit(
        image_id=row["image_id"],
        score=score,
        uri=row["uri"],
        variant=variant,
        one_sentence=caption["one_sentence"],
        feature=caption["feature"],
        caption=caption["caption"],
        datetime=row["datetime"],
        bbox=None if box is None else (box["west"], box["south"], box["east"], box["north"]),
        gsd=row["gsd"],
        collection=row["collection"],
    )


def best_variant(
    query: NDArray[np.float32], vectors: Sequence[Sequence[float]]
) -> tuple[int, float]:
    """Return the index and the cosine of the variant nearest to the query."""
    scores = np.asarray(vectors, dtype=np.float32) @ query
    best = int(np.argmax(scores))
    return best, float(scores[best])
