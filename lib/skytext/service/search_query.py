"""A search on its way from the API to a search replica."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skytext.search.request import SearchRequest
from skytext.service.served_tables import VersionOfEach


class Embedded(NamedTuple):
    """A text as a vector.

    Attributes:
        fingerprint: of the column of vectors that it fits.
        vector: float32, shape (dim,), unit length.
    """

    fingerprint: str
    vector: NDArray[np.float32]


Vectors = dict[str, Embedded]
"""Texts as vectors, by the text."""

TRIAL = "a river"
"""What replicas search for, and embed, before they take requests: the first of all is slow."""


class OtherModel(NamedTuple):
    """In the place of an answer: the search was embedded by another model than the version's.

    Attributes:
        version: that was to be searched.
    """

    version: VersionOfEach


class ImageModel(NamedTuple):
    """The model of the images' own vectors, as far as queries can be embedded by it.

    Attributes:
        fingerprint: of the column of vectors that its queries fit; None where none is loaded.
        problem: why none is loaded, although the table has such vectors; None otherwise.
    """

    fingerprint: str | None
    problem: str | None


class ImageQueries(NamedTuple):
    """Queries as vectors in the space of the images' own vectors.

    Attributes:
        fingerprint: of the column of vectors that they fit.
        vectors: of `texts_of` the request, float32, shape (dim,), unit length.
    """

    fingerprint: str
    vectors: dict[str, NDArray[np.float32]]


class Query(NamedTuple):
    """A search on its way to a search replica.

    Attributes:
        request: what is asked for.
        vectors: of `texts_of` the request, embedded as queries.
        documents: of `SearchRequest.described`, embedded as descriptions.
        version: to search; None: the live one, or the cursor's.
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
    """Return the texts of a request, each once: all are embedded.

    A search by words, too, says which variant is nearest to the query.
    """
    examples = (*request.positive, *request.negative)
    texts = (*request.all_texts, *(e.text for e in examples if e.text is not None))
    return list(dict.fromkeys(texts))
