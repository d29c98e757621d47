"""Search a table by the images' own vectors, alone or beside their descriptions (no Ray).

The words go through the text tower of the model that embedded the images, and an image scores by
the cosine with its own vector. Fused, the images found so and those found by their descriptions
are scored both ways, and their ranks are added (`skytext.search.fusion`): cosines of two models do
not compare, ranks do.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np

from skytext.config.embedding import EmbedConfig, ImageEmbedConfig
from skytext.config.pixels import ImageConfig
from skytext.errors import CallError, ConfigError
from skytext.filters.conditions import Condition
from skytext.models.factory import make_table_embedder, make_table_image_embedder
from skytext.models.image_embedder import ImageEmbedder
from skytext.models.text_embedder import Embedder
from skytext.search.fusion import best, fuse
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import VECTOR_INDEX
from skytext.table.location import TableLocation
from skytext.table.missing_vectors import image_column_of
from skytext.table.queries.hit_column import HitRow
from skytext.table.queries.image_vector_queries import (
    Floats,
    Nearest,
    RowIds,
    Scores,
    nearest_descriptions,
    nearest_images,
    score_rows,
)
from skytext.table.queries.known_fields import KnownFields
from skytext.table.queries.row_copy import Rows
from skytext.table.queries.shape_rows import bind, shape_rows

ImageMode = Literal["image", "image+dense"]
IMAGE_MODES: tuple[ImageMode, ...] = get_args(ImageMode)
MAX_K = 1000
_CANDIDATES_A_HIT, _MIN_CANDIDATES = 5, 100


@dataclass(frozen=True, slots=True)
class ImageHit:
    """One image that was found.

    Attributes:
        image_id: the image.
        score: what it is ranked by, higher is better: with ``image`` the cosine of the query and
            the image, with ``image+dense`` the mean of two reciprocal ranks.
        image_score: cosine of the query and the image's own vector; None where it has none.
        text_score: cosine of the query and the best variant; None with ``image``.
        uri: where the image lies.
        variant: index of the variant that is shown: the best one; None with ``image``, which
            compares none, and shows the first.
        one_sentence: of that variant.
        feature: of that variant.
        caption: of that variant.
        datetime: ISO 8601, or None.
        bbox: west, south, east, north in degrees, or None.
        gsd: metres, or None.
        collection: or None.
    """

    image_id: str
    score: float
    image_score: float | None
    text_score: float | None
    uri: str
    variant: int | None
    one_sentence: str
    feature: str
    caption: str
    datetime: str | None
    bbox: tuple[float, float, float, float] | None
    gsd: float | None
    collection: str | None


@dataclass(frozen=True, slots=True)
class ImageSearchResult:
    """The hits, best first, the version that they are of, and whether every row was scored."""

    hits: tuple[ImageHit, ...]
    table_version: int
    exact: bool

    def to_json(self) -> dict[str, Any]:
        """Return the command line's ``search --json``."""
        return asdict(self)


class ImageSearcher:
    """Searches one version of one table by its image vectors.

    Args:
        table: the version; it has image vectors.
        images: of the model that they were made with.
        descriptions: of the model that the descriptions were embedded with; None: without fusion.

    Raises:
        TableError: the version has no image vectors.
    """

    def __init__(
        self,
        table: ImagesTable,
        images: ImageEmbedder,
        descriptions: Embedder | None = None,
    ) -> None:
        image_column_of(table)
        self.table = table
        self._images = images
        self._descriptions = descriptions

    @classmethod
    def open(
        cls,
        table: str,
        *,
        mode: ImageMode = "image",
        version: int | None = None,
        embedding_model: str | None = None,
        embed: EmbedConfig | None = None,
        image_embed: ImageEmbedConfig | None = None,
        images: ImageConfig | None = None,
    ) -> ImageSearcher:
        """Open a table and load the models that ``mode`` asks for.

        Args:
            table: folder or URI.
            mode: ``image+dense`` loads the descriptions' model too.
            version: None for the promoted version, or the latest where none is promoted.
            embedding_model: where the descriptions' model is now, if its name no longer leads to
                it.
            embed: how that model runs.
            image_embed: how the images' model runs; ``model``: where it is now.
            images: the pixels that it saw.

        Raises:
            TableError: there is no such table or version, it has no image vectors, or a model is
                another than its own.
            ModelError: a model cannot be loaded.
        """
        location = TableLocation.parse(table)
        opened = ImagesTable.open_served(location, version)
        own = image_column_of(opened)
        embedder = make_table_image_embedder(location.uri, own, config=image_embed, images=images)
        described = None
        if mode == "image+dense":
            described = make_table_embedder(
                location.uri, opened.text_column, embed, embedding_model
            )
        return cls(opened, embedder, described)

    def search(
        self, text: str, k: int = 10, *, exact: bool = False, where: Condition | None = None
    ) -> ImageSearchResult:
        """Find the images that fit ``text`` best: fused, where the descriptions' model is there.

        Args:
            text: plain words; what is longer than the text tower takes is cut off.
            k: hits wanted, 1 to 1000.
            exact: score every row even where there is an index.
            where: only images that it lets through are looked at; see `skytext.filters.conditions`.

        Raises:
            CallError: an empty text, ``k`` out of range, or a filter on what no image has.
        """
        if not text.strip():
            raise CallError("the query is empty: say in words what to look for")
        if not 1 <= k <= MAX_K:
            raise ConfigError(f"k must be 1 to {MAX_K} (given: {k})")
        fields = KnownFields(self.table)
        for need in () if where is None else where.needs():
            # Its answer would say nothing of the images.
            if not fields.has(need):
                raise CallError(f"no image of {self.table.location.uri} has {need.name}")
        if where is not None:
            where = bind(where, partial(shape_rows, self.table))
        query = self._images.embed_queries([text])[0]
        if self._descriptions is None:
            found = nearest_images(self.table, query, k, exact=exact, where=where)
            scores = score_rows(self.table, found.ids, query, None)
            return self._result(scores, scores.image, k, found.exact)
        words = self._descriptions.embed_queries([text])[0]
        return self._fused(query, words, k, exact, where)

    def _fused(
        self, query: Floats, words: Floats, k: int, exact: bool, where: Condition | None
    ) -> ImageSearchResult:
        """Add the ranks by the images' own vectors and by their descriptions."""
        num_rows = self.table.num_rows()
        wanted = num_rows if exact else min(num_rows, max(_CANDIDATES_A_HIT * k, _MIN_CANDIDATES))
        options: dict[str, Any] = {"exact": exact, "where": where}
        by_image = nearest_images(self.table, query, wanted, **options)
        by_text = nearest_descriptions(self.table, words, wanted, index=VECTOR_INDEX, **options)
        if wanted < num_rows and by_image.exact and by_text.exact:
            # Every row was scored: a rank among all of them costs no more than one among some.
            return self._fused(query, words, k, True, where)
        ids = np.union1d(by_image.ids, by_text.ids)
        if not len(ids):
            return ImageSearchResult((), self.table.version, exact=True)
        if wanted == num_rows:
            fused = fuse([_aligned(by_image, ids), _aligned(by_text, ids)], "rrf")
            scores = score_rows(self.table, ids[best(fused, ids, k)], query, words)
            return self._result(scores, fused[np.searchsorted(ids, scores.ids)], k, exact=True)
        scores = score_rows(self.table, ids, query, words)
        return self._result(scores, fuse([scores.image, scores.text], "rrf"), k, exact=False)

    def _result(self, scores: Scores, ranked: Any, k: int, exact: bool) -> ImageSearchResult:
        rows = Rows(self.table).hits(scores.ids)
        keys = np.array([row.image_id for row in rows], dtype=str)
        fused = self._descriptions is not None
        hits = [
            _hit(rows[i], float(ranked[i]), scores, i, fused=fused) for i in best(ranked, keys, k)
        ]
        return ImageSearchResult(tuple(hits), self.table.version, exact)


def _aligned(found: Nearest, ids: RowIds) -> Floats:
    """Return the cosines of rows, shape (rows,), NaN where they were not found."""
    cosines = np.full(len(ids), np.nan, np.float32)
    cosines[np.searchsorted(ids, found.ids)] = found.cosines
    return cosines


def _hit(row: HitRow, score: float, scores: Scores, i: int, *, fused: bool) -> ImageHit:
    variant = int(scores.variant[i])
    one_sentence, feature, caption = row.captions[variant]
    own = float(scores.image[i])
    return ImageHit(
        image_id=row.image_id,
        score=score,
        image_score=None if np.isnan(own) else own,
        text_score=float(scores.text[i]) if fused else None,
        uri=row.uri,
        variant=variant if fused else None,
        one_sentence=one_sentence,
        feature=feature,
        caption=caption,
        datetime=None if row.datetime is None else row.datetime.isoformat(),
        bbox=row.bbox,
        gsd=row.gsd,
        collection=row.collection,
    )
