"""The types that the API and the search replicas exchange for a search."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skytext.search.request import SearchRequest
from skytext.service.served_tables import VersionOfEach


class Embedded(NamedTuple):
    """The vector of a text.

    Attributes:
        fingerprint: the fingerprint of the vector column that ``vector`` can be compared with.
        vector: float32, shape (dim,), unit length.
    """

    fingerprint: str
    vector: NDArray[np.float32]


Vectors = dict[str, Embedded]
"""The vector of each text."""

TRIAL = "a river"
"""The query that replicas run before they accept requests, because the first query is slow."""


class OtherModel(NamedTuple):
    """Returned instead of a result if the search was embedded with the wrong model.

    Attributes:
        version: the version to search, whose model must embed the search.
    """

    version: VersionOfEach


class ImageModel(NamedTuple):
    """The state of the image vectors' model in the embedding worker.

    Attributes:
        fingerprint: the fingerprint of the vector column that the model's vectors can be compared
            with. None if no model is loaded.
        problem: why no model is loaded although the table has image vectors. None if a model is
            loaded or the table has no image vectors.
    """

    fingerprint: str | None
    problem: str | None


class ImageQueries(NamedTuple):
    """Queries as vectors in the space of the image vectors.

    Attributes:
        fingerprint: the fingerprint of the vector column that ``vectors`` can be compared with.
        vectors: the vector of each text of `texts_of`. float32, shape (dim,), unit length.
    """

    fingerprint: str
    vectors: dict[str, NDArray[np.float32]]


class Query(NamedTuple):
    """A search for a search replica.

    Attributes:
        request: the request.
        vectors: the vector of each text of `texts_of`, embedded as a query.
        documents: the vector of each text of `SearchRequest.described`, embedded as a description.
        version: the version to search. None means the version of the request's cursor, or the live
            version if the request has no cursor.
        images: the texts of ``vectors`` in the space of the image vectors. None in modes that do
            not use image vectors.
        only_if_open: whether to refuse the search if the version is not open yet.
    """

    request: SearchRequest
    vectors: Vectors
    documents: Vectors
    version: VersionOfEach | None = None
    images: ImageQueries | None = None
    only_if_open: bool = False


def texts_of(request: SearchRequest) -> list[str]:
    """Return the distinct texts of a request that must be embedded as queries.

    A search by words also needs vectors. They select the caption variant nearest to the query.
    """
    examples = (*request.positive, *request.negative)
    texts = (*request.all_texts, *(e.text for e in examples if e.text is not None))
    return list(dict.fromkeys(texts))
