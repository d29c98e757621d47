"""The types of values that the ingress and the other deployments send to each other."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skytext.search.request import SearchRequest
from skytext.service.served_tables import VersionOfEach


class Embedded(NamedTuple):
    """The vector of a text.

    Attributes:
        fingerprint: the fingerprint of a vector column. ``vector`` can be compared with the vectors
            in this column.
        vector: the vector of the text. float32, shape (dim,), unit length.
    """

    fingerprint: str
    vector: NDArray[np.float32]


Vectors = dict[str, Embedded]
"""A dictionary from each text to the vector of the text."""

TRIAL = "a river"
"""The text of a test query. Replicas run the test query before they accept requests, because the
first query is slow."""


class OtherModel(NamedTuple):
    """The result of a search that was embedded with the wrong model.

    Attributes:
        version: the version to search. The search must be embedded again with the model of this
            version.
    """

    version: VersionOfEach


class ImageModel(NamedTuple):
    """The state of the model that embeds queries for the image vectors.

    Attributes:
        fingerprint: the fingerprint of the column of image vectors that the model fits. None if no
            model is loaded.
        problem: the reason why no model is loaded although the table has image vectors. None if a
            model is loaded, or if the table has no image vectors.
    """

    fingerprint: str | None
    problem: str | None


class ImageQueries(NamedTuple):
    """Query vectors for a search of the image vectors.

    Attributes:
        fingerprint: the fingerprint of a column of image vectors. ``vectors`` can be compared with
            the vectors in this column.
        vectors: a dictionary from each text to its vector. `texts_of` returns these texts. float32,
            shape (dim,), unit length.
    """

    fingerprint: str
    vectors: dict[str, NDArray[np.float32]]


class Query(NamedTuple):
    """A search in the form that is sent to a search replica.

    Attributes:
        request: the search request.
        vectors: the texts that `texts_of` returns for the request, embedded as queries.
        documents: the texts in `SearchRequest.described`, embedded as descriptions.
        version: the version to search. None means that the cursor of the request determines the
            version. If there is no cursor either, the live version is searched.
        images: the same texts as in ``vectors``, embedded for a search of the image vectors. None
            in modes that do not use image vectors.
        only_if_open: true if the replica must refuse the search when the version is not open. False
            if the replica must then open the version.
    """

    request: SearchRequest
    vectors: Vectors
    documents: Vectors
    version: VersionOfEach | None = None
    images: ImageQueries | None = None
    only_if_open: bool = False


def texts_of(request: SearchRequest) -> list[str]:
    """Return the distinct texts of a request that must be embedded as queries.

    A search by words also needs the vectors of its texts. The vectors are used to find the
    description that is nearest to the query.
    """
    examples = (*request.positive, *request.negative)
    texts = (*request.all_texts, *(e.text for e in examples if e.text is not None))
    return list(dict.fromkeys(texts))
