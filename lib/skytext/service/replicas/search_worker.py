"""The search worker. Ray Serve deploys this class, and tests call it without Ray Serve."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytext.config.settings import Config
from skytext.errors import TableError
from skytext.models.factory import find_table_embedder
from skytext.models.text_embedder import Embedder, EmbedderInfo, Embeddings
from skytext.search import Searcher, cursor_versions
from skytext.search.request import SearchRequest
from skytext.search.searcher import check_same_models
from skytext.service.problem_details import ProblemError, model_not_loaded
from skytext.service.replicas.refusals import hands_back_refusals
from skytext.service.replicas.row_copier import RowCopier
from skytext.service.replicas.served_versions import Follower, OtherModelError, Versions
from skytext.service.search_query import TRIAL, Embedded, ImageQueries, OtherModel, Query, Vectors
from skytext.service.served_tables import (
    TableSet,
    VersionOfEach,
    common_image_column,
    version_token,
)
from skytext.service.telemetry.freshness import FreshnessGauges
from skytext.service.telemetry.metrics import Meter, timed
from skytext.service.telemetry.tracing import Carrier, span
from skytext.table.images_dataset import ImagesTable
from skytext.table.indexes.build_indexes import num_unindexed_rows
from skytext.table.queries.known_fields import KnownFields
from skytext.table.schema import ROW
from skytext.table.vector_columns import VectorColumn
from skytext.table.versions.promote_rollback import Promotion, promote, rollback

_WHY = "requested over HTTP"
_given: ContextVar[Query] = ContextVar("query")


class _GivenVectors(Embedder):
    """An embedder that runs no model. It returns vectors that the current query contains."""

    info = EmbedderInfo(device="none", precision="none")

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def embed_documents(self, texts: Sequence[str]) -> Embeddings:
        vectors = _stacked(_vectors(_given.get().documents), texts, self.dim)
        return Embeddings(vectors, np.zeros(len(texts), np.bool_))

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return _stacked(_vectors(_given.get().vectors), texts, self.dim)


class _GivenImageVectors:
    """An embedder for image modes that runs no model. It returns vectors of the current query."""

    def __init__(self, column: VectorColumn) -> None:
        self.dim = column.dim
        self._column = column

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        images = _given.get().images
        given = {} if images is None else images.vectors
        return _stacked(given, texts, self.dim)


def _vectors(given: Vectors) -> dict[str, NDArray[np.float32]]:
    return {text: embedded.vector for text, embedded in given.items()}


def _stacked(
    given: Mapping[str, NDArray[np.float32]], texts: Sequence[str], dim: int
) -> NDArray[np.float32]:
    rows = [given[text] for text in texts]
    return np.stack(rows) if rows else np.empty((0, dim), np.float32)


class SearchWorker:
    """Searches the promoted versions of all tables together, and returns the rows of images.

    If a method refuses a request, it returns a `skytext.service.replicas.refusals.Refusal`.

    Raises:
        TableError: a table or the version does not exist. Or the vectors of the tables were made
            with different models.
    """

    def __init__(self, tables: TableSet, config: Config, meter: Meter) -> None:
        self._tables = tables
        self.private_names = tables.private_names
        self._config = config
        self._meter = meter
        self._column: VectorColumn | None = None
        self._threads = ThreadPoolExecutor(
            config.service.search_threads, thread_name_prefix="search"
        )
        self._about: dict[tuple[str, int], dict[str, Any]] = {}
        self._copier: RowCopier | None = None
        if config.service.row_copy_dir is not None:
            self._copier = RowCopier(config.service.row_copy_dir, meter)
        self.versions = Versions(tables, config.service, self._searcher, meter, self._went_live)
        if self._copier is not None:
            # Start the thread after `Versions` is created. Otherwise the thread would keep running
            # if `Versions` raised an error.
            self._copier.start()
        self.follower = Follower(
            {
                "cannot read which version is live": self.versions.refresh,
                "cannot open the canary": self._open_canary,
                "cannot record the versions in use": self.versions.record_held,
            },
            config.service.poll_interval_s,
        )
        self.freshness = FreshnessGauges(tables, meter, config.service.freshness_interval_s)

    def _searcher(self, tables: Sequence[ImagesTable], known: Iterable[Searcher]) -> Searcher:
        """Create the searcher of a version.

        This reads the indexes into memory, and runs a test search in every mode.

        Args:
            tables: the tables, each opened in its version.
            known: the searchers of other open versions.

        Raises:
            OtherModelError: the embedding model has changed since the tables were embedded. Or the
                tables were embedded with different models.
            ModelError: the embedding model cannot be found.
        """
        try:
            check_same_models(tables, with_images=False)
        except TableError as error:
            raise OtherModelError(str(error)) from error
        table, *more = tables
        if self._column is not None and not self._column.fits(table.text_column):
            try:
                find_table_embedder(table.location.uri, table.text_column, self._config.embed)
            except TableError as error:
                raise OtherModelError(str(error)) from error
        column = common_image_column(tables)
        searcher = Searcher(
            table,
            _GivenVectors(table.text_column.dim),
            self._config.index,
            self._config.search,
            None if column is None else _GivenImageVectors(column),
            more,
            known,
        )
        searcher.warm()
        _try_out(searcher, column)
        self._column = table.text_column
        return searcher

    def _went_live(self, searcher: Searcher) -> None:
        if self._copier is not None:
            self._copier.want(searcher)

    def _open_canary(self) -> None:
        canary, live = self.versions.open_canary(), self.versions.live
        # Copy the live version first, because it answers most searches.
        if canary is not None and self._copier is not None and live.rows_are_copied:
            self._copier.want(canary)

    @hands_back_refusals
    async def search(
        self, queries: Sequence[Query], trace: Carrier | None = None
    ) -> list[dict[str, Any] | OtherModel]:
        """Run searches.

        A search can name its version. All searches that name no version run in the same version.
        This is usually the live version. Until the embedding replicas have loaded the model of the
        live version, it is the previous version.

        Returns:
            One result per search. The result is the value of `SearchResult.to_json`, or
            `OtherModel` if the search was not embedded with the model of the version to search.

        Raises:
            CallError: a search is invalid.
            ProblemError: 410: a search or its cursor names a version that the service no longer
                holds. 503: the version is not open, and ``only_if_open`` is true.
        """
        current = self._current([query for query in queries if self._named(query) is None])
        with span("search", trace, num_queries=len(queries)):
            return [await self._search(current, query) for query in queries]

    def _current(self, queries: Sequence[Query]) -> Searcher:
        """Return the searcher for the searches that name no version.

        A new version may become live here before all embedding replicas have loaded the model of
        the new version. Until then, queries may contain vectors of the previous model. If at least
        one query contains such vectors, all queries are searched in the previous version. The
        queries with vectors of the new model must then be embedded again. This is possible, because
        the embedding replicas still have the previous model.
        """
        lately = self.versions.lately_live()
        fitting = [
            next((place for place, one in enumerate(lately) if _fits(one.tables, query)), 0)
            for query in queries
        ]
        current = lately[max(fitting, default=0)]
        self.versions.need(current)
        return current

    async def _search(self, current: Searcher, query: Query) -> Any:
        version = self._named(query)
        searcher = current if version is None else await self._at(version, query.only_if_open)
        if not _fits(searcher.tables, query):
            return OtherModel(searcher.versions)
        with timed(self._meter, "search"):
            answer = await self._in_thread(_answer, searcher, query)
        return answer if len(searcher.tables) == 1 else self._by_name(answer, searcher)

    def _by_name(self, answer: dict[str, Any], searcher: Searcher) -> dict[str, Any]:
        """In a result of several tables, replace the addresses of the tables with their names."""
        shown = self.private_names
        for hit in answer["hits"]:
            hit["table"] = shown[hit["table"]]
        versions = dict(zip(self._tables.names, searcher.versions, strict=True))
        return answer | {
            "table_version": version_token(searcher.versions),
            "table_versions": versions,
        }

    def _named(self, query: Query) -> VersionOfEach | None:
        """Return the version that a search or its cursor names. If neither does, return None."""
        if query.version is None and query.request.cursor is not None:
            return cursor_versions(query.request.cursor, len(self._tables.locations))
        return query.version

    async def _at(self, version: VersionOfEach, only_if_open: bool = False) -> Searcher:
        held = self.versions.held(version)
        if held is not None:
            return held
        if only_if_open:
            raise model_not_loaded()
        # Opening a version may take long, so do not block one of the search threads.
        return await asyncio.to_thread(self.versions.at, version)

    @hands_back_refusals
    async def image(
        self, image_id: str, version: VersionOfEach | None = None, table: str | None = None
    ) -> dict[str, Any] | None:
        """Return the row of an image, without vectors. If no table contains it, return None.

        Args:
            image_id: the id of the image.
            version: the version to read. None means the live version.
            table: the name of the table to read. None means the first table that contains the
                image.

        Raises:
            CallError: no table has this name.
            ProblemError: 410: the service no longer holds the version.
        """
        names = self._tables.names
        only = None if table is None else self._tables.place(table)
        searcher = self.versions.live if version is None else await self._at(version)
        for place, one in enumerate(searcher.tables):
            if only not in (None, place):
                continue
            with timed(self._meter, "image"):
                rows = await self._in_thread(one.rows, [image_id], ROW.names)
            if rows:
                return {
                    **rows[0],
                    "metadata": _json(rows[0]["metadata"]),
                    "table_version": version_token(searcher.versions),
                    **({"table": names[place]} if len(names) > 1 else {}),
                }
        return None

    @hands_back_refusals
    async def table(self) -> dict[str, Any]:
        """Return facts about all tables together, and facts about each table.

        The rows of a version are counted once, and later calls return the same numbers.

        Raises:
            ProblemError: 503: the store of a table does not respond.
        """
        live, mode = self.versions.live, self._config.search.mode
        columns = [table.image_column for table in live.tables if table.image_column is not None]
        column = common_image_column(live.tables) or next(iter(columns), None)
        try:
            of_each = [
                await self._about_table(*one)
                for one in zip(self._tables.names, live.tables, strict=True)
            ]
        except (TableError, OSError, ValueError) as error:
            # Lance raises these errors if a request to the store fails. The request of the client
            # is valid, so the status is 503 and not 422.
            raise ProblemError(
                503,
                "table-unreadable",
                "the store of the table does not respond: try again later",
                {"Retry-After": "1"},
            ) from error
        return {
            **_together(of_each),
            "tables": of_each,
            "canary_version": self.versions.canary_version,
            "pinned": self._config.service.version is not None,
            "max_k": self._config.service.limits.max_k,
            "has_captioner": self._config.service.captioner,
            "image_model": None if column is None else column.model,
            "image_fingerprint": None if column is None else column.fingerprint,
            "modes": list(live.modes),
            "default_mode": mode if mode in live.modes else "dense",
        }

    async def _about_table(self, name: str, table: ImagesTable) -> dict[str, Any]:
        key = name, table.version
        about = self._about.get(key)
        if about is None:
            about = await self._in_thread(_about, table)
            others = {one: kept for one, kept in self._about.items() if one[0] != name}
            self._about = {**others, key: about}
        return {"name": name, **about, **await self._in_thread(_versions, table)}

    @hands_back_refusals
    async def promote(self, version: int | None, table: str | None = None) -> Promotion:
        """Make a version of a table live.

        When this method returns, this replica serves the new live version.

        Args:
            version: the version to promote. None means the latest version.
            table: the name of the table. None means the only table.

        Raises:
            CallError: no table has this name. Or no name is given, and there are several tables.
            TableError: the version does not exist.
        """
        location = self._tables.locations[self._tables.place_or_only(table)]
        done = await asyncio.to_thread(promote, location, version, why=_WHY)
        await asyncio.to_thread(self.versions.refresh)
        return done

    @hands_back_refusals
    async def rollback(self, table: str | None = None) -> Promotion:
        """Make the previous version of a table live.

        Args:
            table: the name of the table. None means the only table.

        Raises:
            CallError: for the same reasons as in `promote`.
            TableError: the table has no previous version.
        """
        location = self._tables.locations[self._tables.place_or_only(table)]
        done = await asyncio.to_thread(rollback, location, why=_WHY)
        await asyncio.to_thread(self.versions.refresh)
        return done

    async def _in_thread(self, function: Any, *arguments: Any) -> Any:
        """Run a blocking function in a search thread.

        If all threads are busy, the function waits for a free thread. If the request is cancelled
        during this wait, the function does not run.
        """
        context = copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, context.run, function, *arguments)


def _fits(tables: Sequence[ImagesTable], query: Query) -> bool:
    """Return true if the vectors of a search were made with the models of the tables."""
    texts = {one.fingerprint for one in (*query.vectors.values(), *query.documents.values())}
    column, images = common_image_column(tables), query.images
    if images is not None and column is not None and images.fingerprint != column.fingerprint:
        return False
    return texts <= {tables[0].text_column.fingerprint}


def _answer(searcher: Searcher, query: Query) -> dict[str, Any]:
    _given.set(query)
    return searcher.search(query.request).to_json()


def _try_out(searcher: Searcher, column: VectorColumn | None) -> None:
    """Run a test search in each mode, because the first search in each mode is slow."""
    table, images = searcher.table, None
    if column is not None:
        images = ImageQueries(column.fingerprint, _vectors(_trial_vectors(column)))
    for mode in searcher.modes:
        request = SearchRequest(text=TRIAL, mode=mode, k=1)
        query = Query(request, _trial_vectors(table.text_column), {}, images=images)
        copy_context().run(_answer, searcher, query)


def _trial_vectors(column: VectorColumn) -> Vectors:
    vector = np.full(column.dim, column.dim**-0.5, np.float32)
    return {TRIAL: Embedded(column.fingerprint, vector)}


def _about(table: ImagesTable) -> dict[str, Any]:
    counts = table.status_counts()
    return {
        "table_version": table.version,
        "created_at": table.committed_at(),
        "num_ok": counts["ok"],
        "num_failed": counts["failed"],
        "num_unindexed": num_unindexed_rows(table),
        "embedding_model": table.text_column.model,
        "caption_models": table.caption_models(),
        "filter_columns": KnownFields(table).filter_columns(),
    }


def _versions(table: ImagesTable) -> dict[str, Any]:
    return {"live_version": table.live_version(), "latest_version": table.latest_version()}


def _together(of_each: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return facts about all tables together, from the facts about each table."""

    def all_of(name: str) -> list[Any]:
        return [about[name] for about in of_each]

    def union(name: str) -> list[str]:
        return list(dict.fromkeys(itertools.chain.from_iterable(all_of(name))))

    live, unindexed = all_of("live_version"), all_of("num_unindexed")
    return {
        "table_version": version_token(tuple(all_of("table_version"))),
        "created_at": max(all_of("created_at")),
        "num_ok": sum(all_of("num_ok")),
        "num_failed": sum(all_of("num_failed")),
        "num_unindexed": None if None in unindexed else sum(unindexed),
        "embedding_model": of_each[0]["embedding_model"],
        "caption_models": union("caption_models"),
        "filter_columns": union("filter_columns"),
        "live_version": None if None in live else version_token(tuple(live)),
        "latest_version": version_token(tuple(all_of("latest_version"))),
    }


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)
