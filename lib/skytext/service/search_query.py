"""The types that the API and search replicas exchange for a search."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skytext.search.request import SearchRequest
from skytext.service.served_tables import VersionOfEach


class Embedded(NamedTuple):
    """A text with its vector.

    Attributes:
        fingerprint: of the vector column that it fits.
        vector: float32, shape (dim,), unit length.
    """

    fingerprint: str
    vector: NDArray[np.float32]


Vectors = dict[str, Embedded]
"""Vectors by text."""

TRIAL = "a river"
"""Queries that replicas run before they accept requests, because the first query is slow."""


class OtherModel(NamedTuple):
    """Returned instead of an answer if the search was embedded with the wrong model.

    Attributes:
        version: the version to search.
    """

    version: VersionOfEach


class ImageModel(NamedTuple):
    """The state of the image vectors' model in the embedding worker.

    Attributes:
        fingerprint: of the vector column that its queries fit; None if no model is loaded.
        problem: why none is loaded although the table has image vectors; else None.
    """

    fingerprint: str | None
    problem: str | None


class ImageQueries(NamedTuple):
    """Queries as vectors in the space of the image vectors.

    Attributes:
        fingerprint: of the vector column that they fit.
        vectors: by text of `texts_of`, float32, shape (dim,), unit length.
    """

    fingerprint: str
    vectors: dict[str, NDArray[np.float32]]


class Query(NamedTuple):
    """A search for a search replica.

    Attributes:
        request: the request.
        vectors: by text of `texts_of`, embedded as queries.
        documents: of `SearchRequest.described`, embedded as descriptions.
        version: the version to search; None for the live one, or the cursor's.
        images: the same texts in the space of the images; None in modes that do not compare these.
        only_if_open: refuse rather than open the version first.
    """

    request: SearchRequest
    vectors: Vectors
    documents: Vectors
    version: VersionOfEach | None = None
    images: ImageQueries | None = None
    only_if_open: bool = False


def texts_of(request: SearchRequest) -> list[str]:
    """Return the distinct texts of a request; all are embedded.

    A search by words needs vectors, too: they select the variant nearest to the query.
    """
    examples = (*request.positive, *request.negative)
    texts = (*request.all_texts, *(e.text for e in examples if e.text is not None))
    return list(dict.fromkeys(texts))
