"""Search one table, or several tables together, in a fixed version of each table.

Ray is not used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from skytext.search.known_filters import check_filter
from skytext.search.query_vectors import QueryEmbedder, Questioner, find_named
from skytext.search.ranking_inputs import Ranking, Searched, Served
from skytext.search.request import IMAGE_MODES, RETRIEVERS, SearchRequest
from skytext.search.results.cursor import Cursor
from skytext.search.results.hits import SearchResult
from skytext.search.results.notes import note_of
from skytext.search.results.paging import Page
from skytext.search.results.shown_hits import make_hits
from skytext.search.several_tables import ServedTables
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import IMAGE_VECTOR_INDEX, ChanceScore, prewarm
from skytext.table.location import TableLocation
from skytext.table.queries.known_fields import KnownFields
from skytext.table.queries.row_copy import copy_rows
from skytext.table.rows.missing_vectors import image_column_of
from skytext.table.vector_columns import VectorColumn
from skytext_client.search_fields import Mode

_EMBEDS_AGAIN = {
    "descriptions": "caption … --stale vectors",
    "images": "embed-images",
}


class Searcher:
    """Searches one table, or several tables together, in a fixed version of each table.

    Args:
        table: the version of the table.
        embedder: the model that embedded the descriptions in the tables.
        index: settings for probes and refinement. They override the measured values of the index.
        search: settings for ranking.
        image_embedder: the model that embedded the images. None if image vectors are not searched.
        more: versions of further tables. They are searched together with ``table``. The vectors in
            all tables must come from the same models.
        known: other searchers with the same settings. If another searcher has already opened one of
            the table objects, this searcher reuses the state of that table.

    Raises:
        TableError: the vectors of an embedder and the vectors in a table have different numbers of
            dimensions, or the tables were embedded with different models.
    """

    def __init__(
        self,
        table: ImagesTable,
        embedder: Embedder,
        index: IndexConfig | None = None,
        search: SearchConfig | None = None,
        image_embedder: QueryEmbedder | None = None,
        more: Sequence[ImagesTable] = (),
        known: Iterable[Searcher] = (),
    ) -> None:
        self.table = table
        self.tables = (table, *more)
        with_images = image_embedder is not None
        check_same_models(self.tables, with_images=with_images)
        for one in self.tables:
            _check_dim(one, embedder, one.text_column)
            if image_embedder is not None:
                _check_dim(one, image_embedder, image_column_of(one))
        self._config = search or SearchConfig()
        self._config_json = self._config.model_dump_json()
        parts = {
            id(part.table): part
            for searcher in known
            for part in searcher._parts
            if (part.images is not None) == with_images
        }
        self._parts: list[Served] = [
            parts.get(id(one))
            or Served.of_table(one, index or IndexConfig(), with_images=with_images)
            for one in self.tables
        ]
        self._served: Searched = ServedTables(self._parts) if more else self._parts[0]
        self._questioner = Questioner(self._served, embedder, self._config, image_embedder)
        self._fields = {one.location.uri: KnownFields(one) for one in self.tables}

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
        """Open a table and load its embedding model.

        Args:
            table: folder or URI of the table.
            version: the version number. None means the live version, or the latest version if no
                version is live.
            embedding_model: current name or folder of the model. It is needed only if the model
                name in the table is no longer valid.
            embed: settings for running the model. The table stores the name of the model.
            index: settings for probes and refinement. They override the measured values of the
                index.
            search: settings for ranking.
            with_images: true to load the image model, which embeds queries for the comparison with
                image vectors. The modes ``image`` and ``image+dense`` need this model.
            image_embed: settings for running the image model. Set ``model`` to the current name or
                folder of the model if the model name in the table is no longer valid.
            images: pixel settings for the image model.

        Raises:
            TableError: the table or version does not exist, a model is not the model that embedded
                the table, or ``with_images`` is true for a table without image vectors.
            ModelError: a model cannot be loaded.
        """
        return cls.open_many(
            [table],
            versions=[version],
            embedding_model=embedding_model,
            embed=embed,
            index=index,
            search=search,
            with_images=with_images,
            image_embed=image_embed,
            images=images,
        )

    @classmethod
    def open_many(
        cls,
        tables: Sequence[str],
        *,
        versions: Sequence[int | None] | None = None,
        embedding_model: str | None = None,
        embed: EmbedConfig | None = None,
        index: IndexConfig | None = None,
        search: SearchConfig | None = None,
        with_images: bool = False,
        image_embed: ImageEmbedConfig | None = None,
        images: ImageConfig | None = None,
    ) -> Searcher:
        """Open tables to search them together, and load the model that embedded all of them.

        Args:
            tables: folders or URIs of the tables, at least one.
            versions: the version of each table. None has the same meaning as in `open`.
            embedding_model: see `open`.
            embed: see `open`.
            index: see `open`.
            search: see `open`.
            with_images: see `open`.
            image_embed: see `open`.
            images: see `open`.

        Raises:
            CallError: no table is named, or a table is named twice.
            TableError: for the same reasons as in `open`, or because the tables were embedded with
                different models.
            ModelError: a model cannot be loaded.
        """
        locations = [TableLocation.parse(table) for table in tables]
        check_named_once(locations)
        wanted = versions or [None] * len(locations)
        opened = [
            ImagesTable.open_served(location, version)
            for location, version in zip(locations, wanted, strict=True)
        ]
        # Check the tables before a model is loaded.
        check_same_models(opened, with_images=with_images)
        first, uri = opened[0], locations[0].uri
        image_embedder = None
        if with_images:
            image_embedder = make_table_image_embedder(
                uri, image_column_of(first), config=image_embed, images=images
            )
        embedder = make_table_embedder(uri, first.text_column, embed, embedding_model)
        return cls(first, embedder, index, search, image_embedder, opened[1:])

    @property
    def has_index(self) -> bool:
        """True if each table has a vector index on the descriptions, and its recall is measured.

        A search uses a vector index only if the recall of the index is measured.
        """
        return all(part.captions.facts is not None for part in self._parts)

    def warm(self) -> None:
        """Load the indexes into memory. Then the first search is as fast as later searches."""
        for part in self._parts:
            prewarm(part.table.dataset, *([] if part.images is None else [IMAGE_VECTOR_INDEX]))

    def copy_rows(self, folder: Path, is_wanted: Callable[[], bool] = lambda: True) -> bool:
        """Copy the vectors and the fields that hits contain to a local disk.

        Later searches read this copy. They return the same results as without the copy. Searches
        can run while the rows are copied. If the folder already contains a copy of these rows, this
        copy is used.

        Args:
            folder: a folder on a local disk. An image needs about 11 kB of disk space, or 13 kB if
                it has an image vector. Several tables can use the same folder.
            is_wanted: a function that is called repeatedly. When it returns False, copying stops.

        Returns:
            True if the copy is complete.

        Raises:
            OSError: the disk is not writable, or the store that contains the table does not
                respond.
        """
        for part in self._parts:
            copy = copy_rows(part.table, folder, is_wanted)
            if copy is None:
                return False
            part.rows.use(copy)
        return True

    @property
    def rows_are_copied(self) -> bool:
        """True if searches read a local copy of the rows."""
        return all(part.rows.are_copied for part in self._parts)

    def search(
        self,
        asked: str | SearchRequest,
        k: int = 10,
        *,
        exact: bool = False,
        where: str | Mapping[str, Any] | Condition | None = None,
        mode: Mode | None = None,
    ) -> SearchResult:
        """Find the images that match a query best.

        Args:
            asked: plain words, or a request. If it is a request, all other arguments must have
                their default values.
            k: number of hits, 1 to 1000.
            exact: true to score every matching row even if there is an index.
            where: a filter, as CQL2 text, CQL2 JSON or a condition. If at most ``k`` images match
                the filter, the result contains all of them.
            mode: the search mode; see `SearchRequest`. None means the mode in the settings.

        Raises:
            CallError: the request is empty, ``k`` is out of range, the filter uses a field that no
                image has, a named image does not exist, or the cursor belongs to another search.
            TableError: a table does not support the search mode.
        """
        if isinstance(asked, SearchRequest):
            if (k, exact, where, mode) != (10, False, None, None):
                raise ConfigError(
                    "set k, exact, where and mode in the SearchRequest, not as arguments"
                )
            request = asked
        else:
            request = SearchRequest.model_validate(
                {"text": asked, "k": k, "exact": exact, "where": where, "mode": mode}
            )
        mode = self._mode(request)
        question_id = self._question_id(request, mode)
        cursor = Cursor.of_request(request, self.versions, question_id)
        if request.where is not None:
            check_filter(request.where, self._fields)
        named = find_named(self._served, request)
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
            table_version=self.versions[0] if len(self.versions) == 1 else None,
            mode=mode,
            exact=ranking.exact,
            next_cursor=next_cursor,
            note=note,
            table_versions=None if len(self.versions) == 1 else self._version_of_each,
        )

    @property
    def versions(self) -> tuple[int, ...]:
        """The version of each searched table."""
        return tuple(table.version for table in self.tables)

    @property
    def _version_of_each(self) -> dict[str, int]:
        return {table.location.uri: table.version for table in self.tables}

    def _cursor(self, question_id: str, offset: int, ranking: Ranking, last: int) -> Cursor:
        """Return the cursor for the page after ``offset`` hits.

        Args:
            question_id: id of the search.
            offset: number of hits on all pages up to now.
            ranking: the ranking of this page.
            last: index of the last hit of this page in the ranking.
        """
        return Cursor(
            versions=self.versions,
            question=question_id,
            offset=offset,
            score=float(ranking.scores[last]),
            row_id=int(ranking.ids[last]),
            scale=ranking.scale,
        )

    def _mode(self, request: SearchRequest) -> Mode:
        """Return the search mode.

        Raises:
            TableError: a table does not support the requested mode.
        """
        if request.mode is None:
            has_words = bool(request.all_texts) and not request.has_images
            can_go_by_words = has_words and all(part.has_text for part in self._parts)
            wanted = self._config.mode
            if wanted == "text" and (request.positive or request.negative):
                wanted = "dense"
            return wanted if can_go_by_words else "dense"
        if request.mode not in self.modes:
            raise self._cannot(request.mode)
        return request.mode

    def _cannot(self, mode: Mode) -> TableError:
        """Return the error for a search mode that at least one table does not support."""
        table = next(part.table for part in self._parts if mode not in part.modes)
        uri = table.location.uri
        if mode in IMAGE_MODES:
            model = image_column_of(table).model
            return TableError(
                f"mode {mode} needs the model that made the image vectors of {uri}, but the model "
                f"{model!r} is not loaded: search with mode dense"
            )
        return TableError(
            f"version {table.version} of {uri} has no full-text index: search with mode dense. To "
            f"build the index, run: skytext index {uri}"
        )

    def _question_id(self, request: SearchRequest, mode: Mode) -> str:
        """Return the id of a search. All pages of one search have the same id."""
        identity = f"{request.fingerprint()} {mode} {self._config_json}"
        if len(self.tables) > 1:
            identity += " ".join(table.location.uri for table in self.tables)
        return hashlib.sha256(identity.encode()).hexdigest()[:16]

    def _chance(self, mode: Mode) -> ChanceScore | None:
        if len(self._parts) > 1:
            # The chance scores were measured in each table alone. More images compete in a search
            # of several tables, so the best score by chance is higher than the measured scores.
            return None
        part = self._parts[0]
        searched = part.images if mode in IMAGE_MODES else part.captions
        return None if searched is None else searched.chance

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The search modes that every table supports."""
        of_parts = [part.modes for part in self._parts]
        return tuple(mode for mode in RETRIEVERS if all(mode in modes for modes in of_parts))


def check_named_once(locations: Sequence[TableLocation]) -> None:
    """Check that at least one table is named, and that each table is named only once.

    Raises:
        CallError: the list is empty, or a table is named twice.
    """
    uris = [location.uri for location in locations]
    if not uris:
        raise CallError("name at least one table to search")
    twice = next((uri for uri in uris if uris.count(uri) > 1), None)
    if twice is not None:
        raise CallError(f"table {twice} is named twice: name each table once")


def check_same_models(tables: Sequence[ImagesTable], *, with_images: bool) -> None:
    """Check that all tables were embedded with the same models and settings.

    Args:
        tables: the tables.
        with_images: true to check the image vectors in addition to the description vectors.

    Raises:
        TableError: two tables were embedded with different models or different settings.
    """
    columns = {"descriptions": [table.text_column for table in tables]}
    if with_images:
        columns["images"] = [image_column_of(table) for table in tables]
    for what, (first, *others) in columns.items():
        for table, other in zip(tables[1:], others, strict=True):
            if first.fits(other):
                continue
            one, two = tables[0].location.uri, table.location.uri
            raise TableError(
                f"{one} and {two} cannot be searched together: their {what} were embedded by "
                f"{first.described} and {other.described}, or with different settings. Search each "
                f"table alone, or embed one table again with the settings of the other table "
                f"(skytext {_EMBEDS_AGAIN[what]})"
            )


def _check_dim(table: ImagesTable, embedder: QueryEmbedder, column: VectorColumn) -> None:
    if embedder.dim != column.dim:
        raise TableError(
            f"the vectors in {table.location.uri} have {column.dim} dimensions, but the query "
            f"vectors have {embedder.dim} dimensions. Search with the model that embedded the table"
        )
