"""The search request. The command line, Python and the HTTP service use the same class."""

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
"""The kind of a retriever. It compares description vectors, description words or image vectors."""
RETRIEVERS: dict[Mode, tuple[Kind, ...]] = {
    "dense": ("captions",),
    "text": ("words",),
    "hybrid": ("captions", "words"),
    "image": ("images",),
    "image+dense": ("captions", "images"),
}
"""The retrievers of each mode.

If a mode has several retrievers, the first retriever can score all images.
"""
IMAGE_MODES = tuple(mode for mode, kinds in RETRIEVERS.items() if "images" in kinds)


Where: TypeAlias = Annotated[
    Condition | None,
    BeforeValidator(lambda given: None if given is None else read_filter(given)),
    PlainSerializer(lambda where: None if where is None else to_json(where)),
]


class Example(BaseModel):
    """An example: a text, or an image in the table. It moves the query vector.

    The query vector moves towards a positive example and away from a negative example.
    """

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
        like: the ids of images in the table. Each image is a separate query. In modes that compare
            descriptions, the query vector is the mean of the image's description vectors. In modes
            that compare image vectors, the query vector is the image vector of the image.
        described: descriptions of an image that is not in the table, in the layout of
            `skytext.captions.parsing.document_text`. All these descriptions together are one query.
            The query vector is the mean of their vectors.
        combine: how to combine several queries. With ``max``, an image gets the highest of its
            scores for the queries. With ``mean``, one query replaces all queries: its vector is the
            mean of the query vectors, and its words are the words of all queries.
        positive: positive examples. Every query vector moves towards these examples.
        negative: negative examples. Every query vector moves away from these examples. The images
            that are named in an example or in ``like`` are not returned as hits.
        mode: ``dense`` compares description vectors. ``text`` compares words (BM25). ``hybrid``
            combines dense and text. ``image`` compares image vectors. ``image+dense`` combines
            image and dense. None means the mode in the settings.
        k: number of hits, 1 to 1000.
        where: a filter, as CQL2 text, CQL2 JSON or a condition.
        cursor: `SearchResult.next_cursor` from the previous page of the same request. It requests
            the next page.
        min_score: the lowest allowed `Hit.score`. The images are not sorted by this score, so the
            search must decide when to stop. Suppose that the last image with a sufficient score has
            rank n. The search stops after n further images, or after 50 if n is smaller than 50.
        group_duplicates: true to return a group of near-duplicates as one hit. This hit lists the
            other images of the group.
        exact: true to score every matching row even if there is an index.

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
    # The types do not limit the values. The method `_check` limits them, with better messages.
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
        """All query texts: ``text`` and then ``texts``. Each text is a separate query."""
        return (() if self.text is None else (self.text,)) + self.texts

    @property
    def has_images(self) -> bool:
        """True if at least one query is an image. An image query has a vector but no words."""
        return bool(self.like or self.described)

    @property
    def named_images(self) -> tuple[str, ...]:
        """The ids of the images that the request names. These images are not returned as hits."""
        examples = (example.image_id for example in (*self.positive, *self.negative))
        return tuple(dict.fromkeys([*self.like, *filter(None, examples)]))

    def check_words(self, mode: Mode) -> None:
        """Check that the request is possible in a mode that compares words.

        Raises:
            ConfigError: a query is an image, there is no query text, or there are examples although
                the mode is text.
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
        """Return a hash (16 hexadecimal digits) of all fields except ``k`` and ``cursor``."""
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
        raise ConfigError(f"{what} is empty or contains only white space")
    if len(text) > MAX_QUERY_CHARS:
        raise ConfigError(f"{what} has {len(text):,} characters: the limit is {MAX_QUERY_CHARS:,}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{what} is not valid Unicode text") from error
