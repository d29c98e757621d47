"""The models that embed queries for the served versions.

A version is one of each table, and all of these were embedded with the same model. Another version
may have been embedded with another model. A model is loaded when the first version that needs it is
promoted or asked for, and released when no version that is kept needs it.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from skytext.config.settings import Config
from skytext.errors import ModelError, SkytextError
from skytext.models.factory import make_table_embedder, make_table_image_embedder
from skytext.models.image_embedder import ImageEmbedder
from skytext.models.text_embedder import Embedder
from skytext.service.search_query import ImageModel
from skytext.service.served_tables import (
    TableSet,
    VersionOfEach,
    common_image_column,
    promoted_versions,
)
from skytext.service.telemetry.metrics import Meter
from skytext.table.images_dataset import ImagesTable

_log = logging.getLogger("skytext.service.replicas.served_models")

_DIFFER = "not all tables have image vectors of the same model"
M = TypeVar("M", Embedder, ImageEmbedder)


class VersionModels(NamedTuple):
    """The models of one version.

    Attributes:
        versions: of each table.
        fingerprint: of the column of vectors that the queries of `text` fit.
        text: embeds queries as descriptions.
        images: embeds queries in the space of the images' own vectors; None where none is loaded.
        image_model: what is known of it.
    """

    versions: VersionOfEach
    fingerprint: str
    text: Embedder
    images: ImageEmbedder | None
    image_model: ImageModel


class ServedModels:
    """Loads the models of versions, and keeps those that are needed.

    Args:
        tables: which.
        config: which version is served, how many are kept, and how models run.
        warm: is given a model that was just loaded: its first forward pass is slow.
        meter: takes the changes of the served version that fail.

    Raises:
        SkytextError: no such table, or its model cannot be loaded.
    """

    def __init__(
        self,
        tables: TableSet,
        config: Config,
        warm: Callable[[Embedder | ImageEmbedder], None],
        meter: Meter,
    ) -> None:
        self._tables = tables
        self._uri = tables.locations[0].uri
        self._config = config
        self._warm = warm
        self._meter = meter
        self._loading = threading.Lock()
        self._kept: OrderedDict[VersionOfEach, VersionModels] = OrderedDict()
        self._opened = tables.open_served(config.service.version)
        self._live = self._load(self._opened)
        self._keep(self._live)

    @property
    def live(self) -> VersionModels:
        """The models for requests that name no version."""
        return self._live

    def kept(self, version: VersionOfEach) -> VersionModels | None:
        """Return the models of a version if they are loaded."""
        return self._kept.get(version)

    def of(self, version: VersionOfEach) -> VersionModels:
        """Return the models of a version; blocks while they are loaded.

        Raises:
            SkytextError: no such version, or its model cannot be loaded.
        """
        with self._loading:
            return self._of(version)

    def _of(self, version: VersionOfEach) -> VersionModels:
        found = self._kept.get(version)
        if found is None:
            found = self._load(self._tables.open(version))
        self._keep(found)
        return found

    def refresh(self) -> None:
        """Follow a promotion or roll-back.

        Raises: as `of`; the models of the version before stay live.
        """
        if self._config.service.version is not None:
            return
        live = promoted_versions(self._opened, self._live.versions)
        if live == self._live.versions:
            return
        try:
            with self._loading:
                self._live = self._of(live)
                self._keep(self._live)
        except (SkytextError, OSError, ValueError):
            self._meter.count("skytext_swaps_total", ok="false")
            raise

    def load_canary(self) -> None:
        """Load the models of a canary before searches go to it.

        Raises: as `of`.
        """
        if self._config.service.version is not None or len(self._opened) > 1:
            return
        version = self._opened[0].canary_version()
        if version is not None:
            self.of((version,))

    def _keep(self, models: VersionModels) -> None:
        self._kept[models.versions] = models
        self._kept.move_to_end(models.versions)
        if self._live.versions in self._kept:
            self._kept.move_to_end(self._live.versions)
        # At least the live version's and those loaded last, which would be loaded again at once.
        while len(self._kept) > max(2, self._config.service.held_versions):
            self._kept.popitem(last=False)

    def _load(self, tables: Sequence[ImagesTable]) -> VersionModels:
        column = tables[0].text_column
        there = (one for one in self._kept.values() if one.fingerprint == column.fingerprint)
        same = next(there, None)
        if same is None:
            text = self._made(lambda: make_table_embedder(self._uri, column, self._config.embed))
        else:
            text = same.text
        images, image_model = self._images(tables)
        versions = tuple(table.version for table in tables)
        return VersionModels(versions, column.fingerprint, text, images, image_model)

    def _images(self, tables: Sequence[ImagesTable]) -> tuple[ImageEmbedder | None, ImageModel]:
        """Load the model of a version's image vectors, if it has some; say so where that fails."""
        column, uri = common_image_column(tables), self._uri
        if column is None:
            differ = any(table.image_column is not None for table in tables)
            return None, ImageModel(None, _DIFFER if differ else None)
        for one in self._kept.values():
            if one.image_model.fingerprint == column.fingerprint:
                return one.images, one.image_model
        try:
            embedder = self._made(
                lambda: make_table_image_embedder(
                    uri, column, config=self._config.image_embed, images=self._config.images
                )
            )
        except SkytextError as error:
            problem = str(error).replace(uri, "TABLE")
            _log.error("modes image and image+dense are not offered", extra={"error": problem})
            return None, ImageModel(None, problem)
        return embedder, ImageModel(column.fingerprint, None)

    def _made(self, make: Callable[[], M]) -> M:
        """Load and warm a model.

        Raises:
            ModelError: also if memory is short, for which torch raises RuntimeError.
        """
        try:
            model = make()
            self._warm(model)
        except (RuntimeError, MemoryError) as error:
            said = str(error).partition("\n")[0] or type(error).__name__
            raise ModelError(
                f"a model of {self._uri} cannot be loaded: {said}; free memory, or go "
                f"back with `skytext rollback {self._uri}`"
            ) from error
        return model
