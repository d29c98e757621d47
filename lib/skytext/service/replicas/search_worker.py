"""The search worker: a plain class that Ray Serve deploys and tests call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytext.config.settings import Config
from skytext.errors import TableError
from skytext.models.factory import find_table_embedder
from skytext.models.text_embedder import Embedder, EmbedderInfo, Embeddings
from skytext.search import Searcher, cursor_version
from skytext.search.request import SearchRequest
from skytext.service.problem_details import ProblemError, model_not_loaded
from skytext.service.replicas.refusals import hands_back_refusals
from skytext.service.replicas.row_copier import RowCopier
from skytext.service.replicas.served_versions import Follower, OtherModelError, Versions
from skytext.service.search_query import TRIAL, Embedded, ImageQueries, OtherModel, Query, Vectors
from skytext.service.telemetry.freshness import FreshnessGauges
from skytext.service.telemetry.metrics import Meter, timed
from skytext.service.telemetry.tracing import Carrier, span
from skytext.table.images_dataset import ImagesTable
from skytext.table.indexes.build_indexes import num_unindexed_rows
from skytext.table.location import TableLocation
from skytext.table.promote_rollback import Promotion, promote, rollback
from skytext.table.queries.known_fields import KnownFields
from skytext.table.schema import ROW
from skytext.table.vector_columns import VectorColumn

_WHY = "asked for over HTTP"
_given: ContextVar[Query] = ContextVar("query")


class _GivenVectors(Embedder):
    """Replaces a searcher's embedder: the vectors came with the request."""

    info = EmbedderInfo(device="none", precision="none")

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def embed_documents(self, texts: Sequence[str]) -> Embeddings:
        vectors = _stacked(_vectors(_given.get().documents), texts, self.dim)
        return Embeddings(vectors, np.zeros(len(texts), np.bool_))

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return _stacked(_vectors(_given.get().vectors), texts, self.dim)


class _GivenImageVectors:
    """The same for the image model."""

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
    """Searches a table, reads its rows, and follows its promotions.

    An error is returned as a `skytext.service.replicas.refusals.Refusal`.

    Raises:
        TableError: no such table or version.
    """

    def __init__(self, table: str, config: Config, meter: Meter) -> None:
        self._location = TableLocation.parse(table)
        self._config = config
        self._meter = meter
        self._column: VectorColumn | None = None
        self._threads = ThreadPoolExecutor(
            config.service.search_threads, thread_name_prefix="search"
        )
        self._about: tuple[int, dict[str, Any]] | None = None
        self._copier: RowCopier | None = None
        if config.service.row_copy_dir is not None:
            self._copier = RowCopier(config.service.row_copy_dir, meter)
        self.versions = Versions(
            self._location, config.service, self._searcher, meter, self._went_live
        )
        if self._copier is not None:
            # Start the thread only after the checks above, because nothing else ends it.
            self._copier.start()
        self.follower = Follower(
            {
                "cannot ask which version is live": self.versions.refresh,
                "cannot open the canary": self._open_canary,
                "cannot tell clean-ups which versions are used": self.versions.say_held,
            },
            config.service.poll_interval_s,
        )
        self.freshness = FreshnessGauges(self._location, meter, config.service.freshness_interval_s)

    def _searcher(self, table: ImagesTable) -> Searcher:
        """Open a version, read its index into memory, and run a search in every mode.

        Raises:
            OtherModelError: it has another model than the version before, and this model has
                changed since then.
            ModelError: the model cannot be found.
        """
        if self._column is not None and not self._column.fits(table.text_column):
            try:
                find_table_embedder(table.location.uri, table.text_column, self._config.embed)
            except TableError as error:
                raise OtherModelError(str(error)) from error
        column = table.image_column
        searcher = Searcher(
            table,
            _GivenVectors(table.text_column.dim),
            self._config.index,
            self._config.search,
            None if column is None else _GivenImageVectors(column),
        )
        searcher.warm()
        _try_out(searcher)
        self._column = table.text_column
        return searcher

    def _went_live(self, searcher: Searcher) -> None:
        if self._copier is not None:
            self._copier.want(searcher)

    def _open_canary(self) -> None:
        canary, live = self.versions.open_canary(), self.versions.live
        # The live version first: most searches go there.
        if canary is not None and self._copier is not None and live.rows_are_copied:
            self._copier.want(canary)

    @property
    def private_names(self) -> tuple[str, ...]:
        """The table's address, in our form and in Lance's."""
        return self._location.uri, self._location.uri.lstrip("/")

    async def version(self) -> int:
        """Return the live version."""
        return self.versions.live.table.version

    @hands_back_refusals
    async def search(
        self, queries: Sequence[Query], trace: Carrier | None = None
    ) -> list[dict[str, Any] | OtherModel]:
        """Run searches, all in one version except those that name another.

        This is the live version, or the one before while queries are embedded by its model.

        Returns:
            For each search `SearchResult.to_json`, or `OtherModel` if it was embedded by another
            model than the version's.

        Raises:
            CallError: an invalid search.
            ProblemError: 410: the version, or the cursor's version, is no longer held. 503: the
                version is not open, and the query forbids to open it.
        """
        current = self._current([query for query in queries if _named(query) is None])
        with span("search", trace, num_queries=len(queries)):
            return [await self._search(current, query) for query in queries]

    def _current(self, queries: Sequence[Query]) -> Searcher:
        """Return the version for searches that name none.

        The embedding replicas load the model of a new version after it is live here. Until then,
        all searches use the last version whose model fits their vectors. If only some vectors are
        by the new model, all searches use the version before, because replicas keep the earlier
        model.
        """
        lately = self.versions.lately_live()
        fitting = [
            next((place for place, one in enumerate(lately) if _fits(one.table, query)), 0)
            for query in queries
        ]
        current = lately[max(fitting, default=0)]
        self.versions.need(current)
        return current

    async def _search(self, current: Searcher, query: Query) -> Any:
        version = _named(query)
        searcher = current if version is None else await self._at(version, query.only_if_open)
        if not _fits(searcher.table, query):
            return OtherModel(searcher.table.version)
        with timed(self._meter, "search"):
            return await self._in_thread(_answer, searcher, query)

    async def _at(self, version: int, only_if_open: bool = False) -> Searcher:
        held = self.versions.held(version)
        if held is not None:
            return held
        if only_if_open:
            raise model_not_loaded()
        # Do not use a search thread: opening a version, and waiting for it, may take long.
        return await asyncio.to_thread(self.versions.at, version)

    @hands_back_refusals
    async def image(self, image_id: str, version: int | None = None) -> dict[str, Any] | None:
        """Return an image's row of a version without its vectors, or None.

        Args:
            image_id: the image.
            version: of the table; None for the live one.

        Raises:
            ProblemError: 410: the version is no longer held.
        """
        searcher = self.versions.live if version is None else await self._at(version)
        table = searcher.table
        with timed(self._meter, "image"):
            rows = await self._in_thread(table.rows, [image_id], ROW.names)
        if not rows:
            return None
        return {**rows[0], "metadata": _json(rows[0]["metadata"]), "table_version": table.version}

    @hands_back_refusals
    async def table(self) -> dict[str, Any]:
        """Return the facts about the served table; counts are cached for each version.

        Raises:
            ProblemError: 503: the store does not list the versions.
        """
        live, column = self.versions.live, self.versions.live.table.image_column
        table, mode = live.table, self._config.search.mode
        try:
            if self._about is None or self._about[0] != table.version:
                self._about = table.version, dict(await self._in_thread(_about, table))
            latest = await self._in_thread(table.latest_version)
            live_version = await self._in_thread(table.live_version)
        except (TableError, OSError, ValueError) as error:
            # An error of the store as Lance raises it; the caller made no mistake.
            raise ProblemError(
                503, "table-unreadable", "the table's store does not answer", {"Retry-After": "1"}
            ) from error
        return {
            **self._about[1],
            "live_version": live_version,
            "latest_version": latest,
            "canary_version": self.versions.canary_version,
            "pinned": self._config.service.version is not None,
            "max_k": self._config.service.limits.max_k,
            "has_captioner": self._config.service.captioner,
            "image_model": None if column is None else column.model,
            "image_fingerprint": None if column is None else column.fingerprint,
            "modes": list(live.modes),
            "default_mode": mode if mode in live.modes else "dense",
        }

    @hands_back_refusals
    async def promote(self, version: int | None) -> Promotion:
        """Make a version live, and serve it here before this call returns.

        Raises:
            TableError: no such version.
        """
        done = await asyncio.to_thread(promote, self._location, version, why=_WHY)
        await asyncio.to_thread(self.versions.refresh)
        return done

    @hands_back_refusals
    async def rollback(self) -> Promotion:
        """Return to the version that was live before.

        Raises:
            TableError: there is no earlier version.
        """
        done = await asyncio.to_thread(rollback, self._location, why=_WHY)
        await asyncio.to_thread(self.versions.refresh)
        return done

    async def _in_thread(self, function: Any, *arguments: Any) -> Any:
        """Run a blocking function. It is not started if its request ended before its turn."""
        context = copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, context.run, function, *arguments)


def _named(query: Query) -> int | None:
    """Return the version in the request or its cursor; None for the live one."""
    if query.version is None and query.request.cursor is not None:
        return cursor_version(query.request.cursor)
    return query.version


def _fits(table: ImagesTable, query: Query) -> bool:
    """Return whether a search was embedded by the models of a version."""
    texts = {one.fingerprint for one in (*query.vectors.values(), *query.documents.values())}
    column, images = table.image_column, query.images
    if images is not None and column is not None and images.fingerprint != column.fingerprint:
        return False
    return texts <= {table.text_column.fingerprint}


def _answer(searcher: Searcher, query: Query) -> dict[str, Any]:
    _given.set(query)
    return searcher.search(query.request).to_json()


def _try_out(searcher: Searcher) -> None:
    """Search once in every mode, because the first search of each is slow."""
    table, images = searcher.table, None
    if table.image_column is not None:
        column = table.image_column
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


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)
