"""A full-text index in memory. It computes the same ranking as the full-text index of a table."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import lance
import numpy as np
import pyarrow as pa
from lance.query import MatchQuery
from numpy.typing import NDArray

from skytext.captions.parsing import composed


class TextIndex:
    """An inverted index of Lance, in memory. It uses BM25 scores and Lance's default settings.

    Args:
        texts: the documents.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.num_texts = len(texts)
        places = pa.array(np.arange(len(texts), dtype=np.int64))
        self._dataset = lance.write_dataset(
            pa.table({"text": pa.array(map(composed, texts), pa.string()), "place": places}),
            "memory://texts",
        )
        with warnings.catch_warnings():
            # Lance gives the same warning when the index of a table is built.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._dataset.create_scalar_index("text", "INVERTED")

    def scores(self, query: str) -> NDArray[np.float32]:
        """Return the BM25 score of every document.

        Returns:
            float32, shape (documents,); 0 for a document that has no word of the query.
        """
        found = self._dataset.to_table(
            columns=["place", "_score"],
            full_text_query=MatchQuery(composed(query), "text"),
            limit=max(self.num_texts, 1),
        )
        scores = np.zeros(self.num_texts, dtype=np.float32)
        scores[found["place"].to_numpy()] = found["_score"].to_numpy()
        return scores
