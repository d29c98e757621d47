"""The search request: the same class for the command line, Python and the HTTP service."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from skytext.errors import ConfigError
from skytext.filters.conditions import Condition, check_size
from skytext.filters.cql2_out import to_json
from skytext.filters.read import read_filter
from skytext_client.search_fields import MAX_K, Mode, SearchFields

MAX_QUERIES = 16
"""Maximum number of queries in one search. Each text and each image is a separate query."""
MAX_EXAMPLES = 64
MAX_QUERY_CHARS = 10_000

Kind: TypeAlias = Literal["captions", "words", "images"]
"""What a retriever compares: vectors of descriptions, words of descriptions, or image vectors."""
RETRIEVERS: dict[Mode, tuple[Kind, ...]] = {
    "dense": ("captions",),
    "text": ("words",),
    "hybrid": ("captions", "words"),
    "image": ("images",),
    "image+dense": ("captions", "images"),
}
"""The retrievers of each mode. If there are several, the first retriever can score all images."""
IMAGE_MODES = tuple(mode for mode, kinds in RETRIEVERS.items() if "images" in kinds)


Where: TypeAlias = Annotated[
    Condition | None,
    BeforeValidator(lambda given: None if given is None else read_filter(given)),
    PlainSerializer(lambda where: None if where is None else to_json(where)),
]


class Example(BaseModel):
    """A text or an image of the table. The query vector moves towards it or away from it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str | None = None
    image_id: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Example:
        if (self.text is None) == (self.image_id is None):
            raise ConfigError("an example must have either a text or an image_id")
        if self.text is not None:
            _check_text(self.text, "an example")
        if self.image_id is not None:
            _check_text(self.image_id, "the image_id of an example")
        return self


class SearchRequest(SearchFields):
    """One search.

    Attributes:
        text: the query in plain words. It is not parsed as a query language.
        texts: further texts. Each text is a separate query.
        like: ``image_id`` of images in the table. Each image is a separate query. The mean of the
            vectors of its variants is compared with descriptions. Its image vector is compared with
            image vectors.
        described: descriptions of an image that is not in the table, in the layout of
            `skytext.captions.parsing.document_text`. They are one query: their mean vector.
        combine: how to combine several queries. ``max``: the score of an image is the score of its
            best query. ``mean``: one query replaces all queries. Its vector is their mean vector,
            and its words are the words of all queries.
        positive: examples. Every query vector moves towards these examples.
        negative: examples. Every query vector moves away from these examples. Hits do not contain
            images that are named in an example or in ``like``.
        mode: ``dense`` compares vectors of descriptions. ``text`` compares words (BM25). ``hybrid``
            combines dense and text. ``image`` compares image vectors. ``image+dense`` combines
            image and dense. None means the configured default.
        k: number of hits, 1 to 1000.
        where: a filter: CQL2 text, CQL2 JSON or a condition.
        cursor: `SearchResult.next_cursor` of the same request, to get the next page.
        min_score: minimum `Hit.score` of the hits. Hits are not ordered by this score. The search
            stops when it has examined enough images after the last such hit: at least 50, and at
            least as many as up to that hit.
        group_duplicates: whether near-duplicates become one hit that lists the other images.
        exact: whether to score every matching row even if there is an index.

    Raises:
        ConfigError: the request is empty or invalid.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str | None = None
    texts: tuple[str, ...] = ()
    like: tuple[str, ...] = ()
    described: tuple[str, ...] = ()
    positive: Annotated[tuple[Example, ...], Field(max_length=MAX_EXAMPLES)] = ()
    negative: Annotated[tuple[Example, ...], Field(max_length=MAX_EXAMPLES)] = ()
    where: Where = None
    # The types have no limits, because the check below gives better messages.
    k: int = 10
    min_score: float | None = None

    @model_validator(mode="after")
    def _check(self) -> SearchRequest:
        if not 1 <= self.k <= MAX_K:
            raise ConfigError(f"k must be 1 to {MAX_K} (given: {self.k})")
        if self.min_score is not None and not -1 <= self.min_score <= 1:
            raise ConfigError(f"min_score must be -1 to 1 (given: {self.min_score:g})")
        for text in self.all_texts:
            _check_text(text, "the query")
        for text in self.described:
            _check_text(text, "a description")
        for image_id in self.like:
            _check_text(image_id, "the image_id")
        num_queries = len(self.all_texts) + len(self.like) + bool(self.described)
        if num_queries == 0 and not self.positive:
            only = "negative examples alone are not a query: " if self.negative else ""
            raise ConfigError(f"{only}give a text, an image or a positive example to search for")
        if num_queries > MAX_QUERIES:
            raise ConfigError(f"at most {MAX_QUERIES} queries are possible (given: {num_queries})")
        if self.mode in ("text", "hybrid"):
            self.check_words(self.mode)
        if self.mode in IMAGE_MODES and self.described:
            raise ConfigError(
                f"mode {self.mode} cannot search for a described image, because the image has no "
                "image vector: use mode dense"
            )
        if self.where is not None:
            check_size(self.where)
        return self

    @property
    def all_texts(self) -> tuple[str, ...]:
        """``text`` and ``texts``. Each text is a separate query."""
        return (() if self.text is None else (self.text,)) + self.texts

    @property
    def has_images(self) -> bool:
        """Whether a query is an image. Such a query has a vector but no words."""
        return bool(self.like or self.described)

    @property
    def named_images(self) -> tuple[str, ...]:
        """``image_id`` of the images that the request names. Hits do not contain these images."""
        examples = (example.image_id for example in (*self.positive, *self.negative))
        return tuple(dict.fromkeys([*self.like, *filter(None, examples)]))

    def check_words(self, mode: Mode) -> None:
        """Check that a mode that compares words is possible.

        Raises:
            ConfigError: a query is an image, there is no text, or mode text has examples.
        """
        if self.has_images or not self.all_texts:
            raise ConfigError(
                f"mode {mode} compares words: give only texts, or search for similar images with "
                "mode dense"
            )
        if mode == "text" and (self.positive or self.negative):
            raise ConfigError(
                "mode text has no query vectors, so it cannot use examples: use mode dense"
            )

    def fingerprint(self) -> str:
        """Return a hash of the request without ``k`` and ``cursor``: 16 hex digits."""
        said = self.model_dump_json(exclude={"k", "cursor"})
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    @classmethod
    def from_json(cls, value: object) -> SearchRequest:
        """Parse a request from JSON values.

        Raises:
            ConfigError: the request is invalid.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "search"
            raise ConfigError(f"the request is invalid at {where}: {first['msg']}") from error


def _check_text(text: str, what: str) -> None:
    if not text.strip():
        raise ConfigError(f"{what} is empty: write the query in words")
    if len(text) > MAX_QUERY_CHARS:
        raise ConfigError(f"{what} has {len(text):,} characters: the limit is {MAX_QUERY_CHARS:,}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{what} is not valid Unicode text") from error
