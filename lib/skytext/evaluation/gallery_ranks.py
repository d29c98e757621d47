"""Score a gallery for queries. For each query, find the rank of the best correct result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from skytext.evaluation.compared_setups import FLOORS, PAPER_RULE, Rule
from skytext.evaluation.recall import Floats, Indices, Placings, place
from skytext.search.fusion import Pooling, fuse, mean_lengths, pool
from skytext.table.indexes.text_index import TextIndex

_BLOCK_BYTES = 64 * 2**20
_KEPT_BYTES = 512 * 2**20


class WordScores:
    """BM25 scores of texts for queries. A score is computed when it is needed.

    Several rules use the same scores, so the scores are stored in a cache of at most half a GiB.

    Args:
        texts: the searched texts.
        queries: the queries.
    """

    def __init__(self, texts: Sequence[str], queries: Sequence[str]) -> None:
        self._texts = texts
        self._queries = queries
        self._kept: dict[str, Floats] = {}

    @cached_property
    def _index(self) -> TextIndex:
        return TextIndex(self._texts)

    def rows(self, first: int, last: int) -> Floats:
        """Return the scores of queries ``first`` to ``last - 1``. The shape is (queries, texts)."""
        return np.stack([self._row(query) for query in self._queries[first:last]])

    def _row(self, query: str) -> Floats:
        found = self._kept.get(query)
        if found is None:
            found = self._index.scores(query)
            if (len(self._kept) + 1) * found.nbytes <= _KEPT_BYTES:
                self._kept[query] = found
        return found


@dataclass(frozen=True, slots=True)
class Documents:
    """The variant vectors of the images.

    Attributes:
        vectors: unit vectors of all variants. The variants of one image are next to each other.
        offsets: index of the first variant of each image in ``vectors``.
    """

    vectors: Floats
    offsets: Indices


def place_images(
    queries: Floats,
    documents: Documents,
    relevant: Sequence[Indices],
    rule: Rule,
    words: WordScores | None = None,
) -> Placings:
    """Search images with text queries. For each query, find the rank of the best correct image.

    Args:
        queries: one unit vector for each query.
        documents: the searched images.
        relevant: for each query, the indices of the correct images.
        rule: the ranking.
        words: word scores of the images' texts for the queries. They are required if the rule uses
            text.
    """
    lengths = _lengths(documents, rule)

    def dense(rows: Floats) -> Floats:
        return pool(rows @ documents.vectors.T, documents.offsets, rule.pooling, lengths)

    def score_rows(first: int, last: int) -> Floats:
        return _combined(rule, lambda: dense(queries[first:last]), words, first, last)

    def score_row(i: int) -> Floats:
        # The published code multiplies one query at a time. If a whole block of queries is
        # multiplied, the last digit of the scores can differ. Only the rule of the paper must give
        # exactly the same order as the published code.
        return dense(queries[i])

    return place(
        score_rows,
        relevant,
        rows_at_once=_rows_at_once(len(documents.vectors)),
        score_row=score_row if rule == PAPER_RULE else None,
    )


def place_captions(
    documents: Documents,
    captions: Floats,
    relevant: Sequence[Indices],
    rule: Rule,
    words: WordScores | None = None,
) -> Placings:
    """Search captions with images as queries.

    For each image, find the rank of the best caption that belongs to this image.

    A caption has two scores. The dense score is the pooled cosine between the caption and the
    variants of the image. The word score is the BM25 score of the caption, where the text of the
    image is the query.

    Args:
        documents: the images that are used as queries.
        captions: unit vectors of the searched captions.
        relevant: for each image, the indices of its captions.
        rule: the ranking.
        words: word scores of the captions, where the texts of the images are the queries. They are
            required if the rule uses text.
    """
    vectors, offsets = documents.vectors, documents.offsets
    ends = np.append(offsets[1:], len(vectors))
    lengths = _lengths(documents, rule)

    def dense(first: int, last: int, one_by_one: bool) -> Floats:
        some = vectors[offsets[first] : ends[last - 1]]
        products = np.stack([row @ captions.T for row in some]) if one_by_one else some @ captions.T
        starts = offsets[first:last] - offsets[first]
        return _pooled_for_each(products, starts, rule.pooling, _part(lengths, first, last))

    def score_rows(first: int, last: int) -> Floats:
        return _combined(rule, lambda: dense(first, last, False), words, first, last)

    def score_row(i: int) -> Floats:
        row: Floats = dense(i, i + 1, True)[0]
        return row

    most = int((ends - offsets).max())
    return place(
        score_rows,
        relevant,
        rows_at_once=_rows_at_once(len(captions) * most),
        score_row=score_row if rule == PAPER_RULE else None,
    )


def _pooled_for_each(
    products: Floats, starts: Indices, pooling: Pooling, lengths: Floats | None
) -> Floats:
    """Combine the scores of each image's variants to one score for each image.

    The shape of ``products`` is (variants, captions). The shape of the result is (images,
    captions).
    """
    if pooling == "max+mean-z":
        # The z-scores are computed over the captions, because image to text ranks captions.
        parts = [_pooled_for_each(products, starts, one, lengths) for one in ("max", "mean")]
        return fuse(parts, "z")
    return pool(products.T, starts, pooling, lengths).T


def _combined(
    rule: Rule, dense: Callable[[], Floats], words: WordScores | None, first: int, last: int
) -> Floats:
    if not rule.uses_text:
        return dense()
    if words is None:
        raise ValueError(f"the rule '{rule}' uses BM25 scores, but the argument words is None")
    by_words = words.rows(first, last)
    if rule.mode == "text":
        return by_words
    return fuse([dense(), by_words], rule.fusion, [1.0, rule.text_weight], FLOORS)


def _lengths(documents: Documents, rule: Rule) -> Floats | None:
    if rule.mode == "text" or rule.pooling == "max":
        return None
    return mean_lengths(documents.vectors, documents.offsets)


def _part(lengths: Floats | None, first: int, last: int) -> Floats | None:
    return None if lengths is None else lengths[first:last]


def _rows_at_once(row_length: int) -> int:
    return int(np.clip(_BLOCK_BYTES // (4 * max(row_length, 1)), 1, 4096))
