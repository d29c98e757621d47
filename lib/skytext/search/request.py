"""The search request: one frozen model for the command line, Python and the HTTP service."""

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
"""Maximum number of texts and images in one search: each is a query of its own."""
MAX_EXAMPLES = 64
MAX_QUERY_CHARS = 10_000

Kind: TypeAlias = Literal["captions", "words", "images"]
"""The data that a retriever compares: descriptions' vectors, their words, or image vectors."""
RETRIEVERS: dict[Mode, tuple[Kind, ...]] = {
    "dense": ("captions",),
    "text": ("words",),
    "hybrid": ("captions", "words"),
    "image": ("images",),
    "image+dense": ("captions", "images"),
}
"""The retrievers of each mode. If there are several, the first one can score every image."""
IMAGE_MODES = tuple(mode for mode, kinds in RETRIEVERS.items() if "images" in kinds)


Where: TypeAlias = Annotated[
    Condition | None,
    BeforeValidator(lambda given: None if given is None else read_filter(given)),
    PlainSerializer(lambda where: None if where is None else to_json(where)),
]


class Example(BaseModel):
    """A text or an image of the table that moves the query towards itself, or away."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str | None = None
    image_id: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Example:
        if (self.text is None) == (self.image_id is None):
            raise ConfigError("an example is either a text or an image_id")
        if self.text is not None:
            _check_text(self.text, "an example")
        if self.image_id is not None:
            _check_text(self.image_id, "the image_id of an example")
        return self


class SearchRequest(SearchFields):
    """One search.

    Attributes:
        text: the query in plain words; it is data, never a query language.
        texts: further texts; each is a query of its own.
        like: ``image_id`` of images of the table. Each is a query of its own, by the mean of its
            variants' vectors, and by its own vector if the mode compares images.
        described: descriptions of an image that is not in the table, in the layout of
            `skytext.captions.parsing.document_text`: one query, by their mean vector.
        combine: how several queries give one result: ``max`` scores an image by its best query,
            ``mean`` by the mean vector of the queries (dense) or the sum of their words (text).
        positive: examples that every query's vector moves towards.
        negative: examples that it moves away from. Images named in an example or in ``like`` are
            not in the result.
        mode: ``dense`` compares vectors of descriptions, ``text`` compares words (BM25), ``hybrid``
            fuses both; ``image`` compares the images' own vectors, ``image+dense`` fuses these with
            the descriptions'. None for the configured default.
        k: number of hits, 1 to 1000.
        where: a filter: CQL2 text, CQL2 JSON or a condition.
        cursor: `SearchResult.next_cursor` of the same request, to get the next page.
        min_score: the least `Hit.score`. The search ends after the last such image once as many
            further images, at least 50, have a lower score.
        group_duplicates: near-duplicates become one hit, which lists the others.
        exact: score every row, even if there is an index.

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
    # No limits in the type: the check below gives a better message for both ends.
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
            raise ConfigError(f"{only}name a text, an image or a positive example to search for")
        if num_queries > MAX_QUERIES:
            raise ConfigError(f"at most {MAX_QUERIES} queries at once (given: {num_queries})")
        if self.mode in ("text", "hybrid"):
            self.check_words(self.mode)
        if self.mode in IMAGE_MODES and self.described:
            raise ConfigError(
                f"a described image is searched by its descriptions, so mode {self.mode} is not "
                "possible: use mode dense"
            )
        if self.where is not None:
            check_size(self.where)
        return self

    @property
    def all_texts(self) -> tuple[str, ...]:
        """The texts; each is a query of its own."""
        return (() if self.text is None else (self.text,)) + self.texts

    @property
    def has_images(self) -> bool:
        """Whether the request has an image, which has a vector but no words."""
        return bool(self.like or self.described)

    @property
    def named_images(self) -> tuple[str, ...]:
        """``image_id`` of the images in the request; they are left out of the hits."""
        examples = (example.image_id for example in (*self.positive, *self.negative))
        return tuple(dict.fromkeys([*self.like, *filter(None, examples)]))

    def check_words(self, mode: Mode) -> None:
        """Refuse a request that a search by words cannot answer.

        Raises:
            ConfigError: it contains images, or no text.
        """
        if self.has_images or not self.all_texts:
            raise ConfigError(
                f"{mode} search compares words: name a text, or search for a similar image with "
                "mode dense"
            )
        if mode == "text" and (self.positive or self.negative):
            raise ConfigError("text search has no vectors for examples to move: use mode dense")

    def fingerprint(self) -> str:
        """Return a hash of the request without its page: 16 hex digits."""
        payload = self.model_dump_json(exclude={"k", "cursor"})
        return hashlib.sha256(payload.encode()).hexdigest()[:16]

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
        raise ConfigError(f"{what} has {len(text):,} characters: at most {MAX_QUERY_CHARS:,}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{what} is not valid Unicode text") from error
