"""Search one version of one table (no Ray)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from skytext.config.embedding import EmbedConfig, ImageEmbedConfig
from skytext.config.index import IndexConfig
from skytext.config.pixels import ImageConfig
from skytext.config.search import SearchConfig
from skytext.errors import CallError, ConfigError, TableError
from skytext.filters.conditions import Condition
from skytext.models.factory import make_table_embedder, make_table_image_embedder
from skytext.models.text_embedder import Embedder
from skytext.search.cursor import Cursor
from skytext.search.hits import SearchResult
from skytext.search.notes import note_of
from skytext.search.paging import Page
from skytext.search.query_vectors import QueryEmbedder, Questioner, find_named
from skytext.search.ranking_inputs import Ranking, Served
from skytext.search.request import IMAGE_MODES, RETRIEVERS, Kind, Mode, SearchRequest
from skytext.search.shown_hits import make_hits
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import IMAGE_VECTOR_INDEX, ChanceScore, prewarm
from skytext.table.location import TableLocation
from skytext.table.missing_vectors import image_column_of
from skytext.table.queries.known_fields import KnownFields
from skytext.table.queries.row_copy import copy_rows
from skytext.table.queries.shape_rows import bind, shape_rows
from skytext.table.vector_columns import VectorColumn

# Their row ids take up to some 100 kB each.
_SHAPES_KEPT = 64
_NAMES_SHOWN = 50
_KINDS = {
    "number": "a number",
    "text": "text (numbers stand without quotes)",
    "boolean": "true or false",
    "time": "a time",
}


class Searcher:
    """Searches one version of one table.

    Args:
        table: the version.
        embedder: of the model that the table was embedded with.
        index: probes and refinement, in place of those that were measured for the index.
        search: how images are ranked.
        image_embedder: of the model that the images were embedded with; None: they are not
            searched by their own vectors.
    """

    def __init__(
        self,
        table: ImagesTable,
        embedder: Embedder,
        index: IndexConfig | None = None,
        search: SearchConfig | None = None,
        image_embedder: QueryEmbedder | None = None,
    ) -> None:
        _check_dim(table, embedder, table.text_column)
        if image_embedder is not None:
            _check_dim(table, image_embedder, image_column_of(table))
        self.table = table
        self._config = search or SearchConfig()
        self._said_config = self._config.model_dump_json()
        self._served = Served.of_table(
            table, index or IndexConfig(), with_images=image_embedder is not None
        )
        self._questioner = Questioner(table, embedder, self._config, image_embedder)
        self._fields = KnownFields(table)
        self._shape_rows = lru_cache(_SHAPES_KEPT)(partial(shape_rows, table))

    @classmethod
    def open(
        cls,
        table: str,
        *,
        version: int | None = None,
        embedding_model: str | None = None,
        embed: EmbedConfig | None = None,
        index: IndexConfig | None = None,
        search: SearchConfig | None = None,
        with_images: bool = False,
        image_embed: ImageEmbedConfig | None = None,
        images: ImageConfig | None = None,
    ) -> Searcher:
        """Open a table and load the model that it was embedded with.

        Args:
            table: folder or URI.
            version: None for the promoted version, or the latest where none is promoted.
            embedding_model: where the table's model is now, if its name no longer leads to it.
            embed: how the model runs; which one it is, the table says.
            index: probes and refinement, in place of those that were measured for the index.
            search: how images are ranked.
            with_images: load the model that the images were embedded with, too: modes ``image``
                and ``image+dense`` need it.
            image_embed: how that model runs; ``model``: where it is now.
            images: the pixels that it saw.

        Raises:
            TableError: there is no such table or version, it has no image vectors that are asked
                for, or a model is another than its own.
            ModelError: a model cannot be loaded.
        """
        location = TableLocation.parse(table)
        opened = ImagesTable.open_served(location, version)
        image_embedder = None
        if with_images:
            column = image_column_of(opened)
            image_embedder = make_table_image_embedder(
                location.uri, column, config=image_embed, images=images
            )
        embedder = make_table_embedder(location.uri, opened.text_column, embed, embedding_model)
        return cls(opened, embedder, index, search, image_embedder)

    @property
    def has_index(self) -> bool:
        """Whether there is an index on the descriptions' vectors whose recall was measured.

        Others are not used.
        """
        return self._served.captions.facts is not None

    def warm(self) -> None:
        """Load the indexes into memory, so that the first search is as fast as the next."""
        images = self._served.images
        prewarm(self.table.dataset, *([] if images is None else [IMAGE_VECTOR_INDEX]))

    def copy_rows(self, folder: Path, is_wanted: Callable[[], bool] = lambda: True) -> bool:
        """Copy vectors and what hits tell to this machine's disk, and search by the copy then.

        Answers stay the same, searches under way too; what was copied before is used again.

        Args:
            folder: on a local disk, with room for about 11 kB an image, and 2 kB more where images
                have vectors of their own; tables may share it.
            is_wanted: asked again and again; once it is not, nothing more is copied.

        Returns:
            Whether it was wanted to the end.

        Raises:
            OSError: it cannot be written, or the table's store does not answer.
        """
        copy = copy_rows(self.table, folder, is_wanted)
        if copy is not None:
            self._served.rows.use(copy)
        return copy is not None

    @property
    def rows_are_copied(self) -> bool:
        """Whether searches are answered from a copy of the rows."""
        return self._served.rows.are_copied

    def search(
        self,
        asked: str | SearchRequest,
        k: int = 10,
        *,
        exact: bool = False,
        where: str | Mapping[str, Any] | Condition | None = None,
        mode: Mode | None = None,
    ) -> SearchResult:
        """Find the images that fit best.

        Args:
            asked: plain words, or all that can be asked for; with the latter, the other arguments
                stay away.
            k: hits wanted, 1 to 1000.
            exact: score every row even where there is an index.
            where: only images that it lets through are looked at: CQL2 text, CQL2 JSON or a
                condition. All of them are found, if they are fewer than ``k``.
            mode: see `SearchRequest`; None for the configured default.

        Raises:
            CallError: nothing is asked for, ``k`` is out of range, a filter is on what no image
                has, an image is named that is not there, or a cursor is of another search.
            TableError: a mode that this version cannot be searched in.
        """
        if isinstance(asked, SearchRequest):
            if (k, exact, where, mode) != (10, False, None, None):
                raise ConfigError("k, exact, where and mode stand in the SearchRequest itself")
            request = asked
        else:
            request = SearchRequest.model_validate(
                {"text": asked, "k": k, "exact": exact, "where": where, "mode": mode}
            )
        mode = self._mode(request)
        question_id = self._question_id(request, mode)
        cursor = Cursor.of_request(request, self.table.version, question_id)
        if request.where is not None:
            self._check_filter(request.where)
            bound = bind(request.where, self._shape_rows)
            request = request.model_copy(update={"where": bound})
        named = find_named(self.table, request)
        question = self._questioner.ask(request, mode, named)
        page = Page(self._served, question, request, cursor, self._config, named)
        ranking, places = page.find()
        hits = make_hits(self._served, question, ranking, places[: request.k])
        next_cursor = None
        note = note_of(request, mode, self._chance(mode), hits)
        if len(places) > request.k:
            note = page.why_last or note
            if page.why_last is None:
                last, offset = places[request.k - 1][0], page.offset + request.k
                next_cursor = self._cursor(question_id, offset, ranking, last).encode()
        return SearchResult(
            hits=hits,
            table_version=self.table.version,
            mode=mode,
            exact=ranking.exact,
            next_cursor=next_cursor,
            note=note,
        )

    def _cursor(self, question_id: str, offset: int, ranking: Ranking, last: int) -> Cursor:
        """Return the end of a page: ``offset`` hits, the last of them at a place of the ranking."""
        return Cursor(
            version=self.table.version,
            question=question_id,
            offset=offset,
            score=float(ranking.scores[last]),
            row_id=int(ranking.ids[last]),
            scale=ranking.scale,
        )

    def _mode(self, request: SearchRequest) -> Mode:
        """Return the mode to search in.

        Raises:
            TableError: a mode is asked for by name that this version cannot be searched in.
        """
        if request.mode is None:
            has_words = bool(request.all_texts) and not request.has_images
            can_go_by_words = has_words and self._served.has_text
            wanted = self._config.mode
            if wanted == "text" and (request.positive or request.negative):
                wanted = "dense"
            return wanted if can_go_by_words else "dense"
        if request.mode not in self.modes:
            raise self._cannot(request.mode)
        return request.mode

    def _cannot(self, mode: Mode) -> TableError:
        """Return why this version cannot be searched in a mode."""
        uri = self.table.location.uri
        if mode in IMAGE_MODES:
            model = image_column_of(self.table).model
            return TableError(
                f"mode {mode} needs the model that the images of {uri} were embedded with, and "
                f"{model!r} is not loaded: search with mode dense"
            )
        return TableError(
            f"version {self.table.version} of {uri} has no full-text index: skytext index {uri} "
            "builds it; search with mode dense"
        )

    def _question_id(self, request: SearchRequest, mode: Mode) -> str:
        """Return what tells a search from others, the page apart."""
        said = f"{request.fingerprint()} {mode} {self._said_config}"
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    def _chance(self, mode: Mode) -> ChanceScore | None:
        searched = self._served.images if mode in IMAGE_MODES else self._served.captions
        return None if searched is None else searched.chance

    @property
    def modes(self) -> tuple[Mode, ...]:
        """What this version can be searched in."""
        there: set[Kind] = {"captions"}
        there |= {"words"} if self._served.has_text else set()
        there |= {"images"} if self._served.images is not None else set()
        return tuple(mode for mode, kinds in RETRIEVERS.items() if there.issuperset(kinds))

    def _check_filter(self, where: Condition) -> None:
        """Refuse a filter on what no image has: its answer would say nothing of the images."""
        for need in where.needs():
            if self._fields.has(need):
                continue
            kind = "" if need.kind is None else f" as {_KINDS[need.kind]}"
            message = f"no image of {self.table.location.uri} has {need.name}{kind}"
            if need.name.startswith("metadata."):
                names = self._fields.metadata_names()
                there = ", ".join(names[:_NAMES_SHOWN]) if names else "nothing"
                message += f" (its metadata: {there}{', …' * (len(names) > _NAMES_SHOWN)})"
            raise CallError(message)


def _check_dim(table: ImagesTable, embedder: QueryEmbedder, column: VectorColumn) -> None:
    if embedder.dim != column.dim:
        raise TableError(
            f"{table.location.uri} holds vectors of {column.dim} numbers, the embedder makes "
            f"{embedder.dim}: search with the model that the table was embedded with"
        )
