"""A search on its way from the API to a search replica."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skytext.search.request import SearchRequest

Vectors = dict[str, NDArray[np.float32]]
"""Unit vectors by the text that they are of."""

TRIAL = "a river"
"""What replicas search for, and embed, before they take requests: the first of all is slow."""


class Query(NamedTuple):
    """A search on its way to a search replica.

    Attributes:
        request: what is asked for.
        vectors: of `texts_of` the request, embedded as queries.
        documents: of `SearchRequest.described`, embedded as descriptions.
        version: to search; None: the live one, or the cursor's.
    """

    request: SearchRequest
    vectors: Vectors
    documents: Vectors
    version: int | None = None


def texts_of(request: SearchRequest) -> list[str]:
    """Return the texts of a request, each once: all are embedded.

    A search by words, too, says which variant is nearest to the query.
    """
    examples = (*request.positive, *request.negative)
    texts = (*request.all_texts, *(e.text for e in examples if e.text is not None))
    return list(dict.fromkeys(texts))
