"""The models that embed queries for the served versions.

In this module, *a version* is a tuple with one version number per table. All tables in one version
were embedded with the same model. Different versions may have different models.

A model is loaded when a version that needs the model is promoted or requested. The models of a
limited number of versions are kept. A model is released when no kept version needs the model.
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
    followed_canary,
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
        versions: the version number of each table.
        fingerprint: the fingerprint of the column that contains the vectors of the descriptions.
        text: the model that embeds queries for a search of the descriptions.
        images: the model that embeds queries for a search of the image vectors. None if this model
            is not loaded.
        image_model: the state of the model in ``images``.
    """

    versions: VersionOfEach
    fingerprint: str
    text: Embedder
    images: ImageEmbedder | None
    image_model: ImageModel


class ServedModels:
    """Loads the models of versions, and keeps the models that are still needed.

    Args:
        tables: the served tables.
        config: all settings. This class uses the pinned version, the number of versions to keep,
            and the settings for models.
        warm: a function that runs the first forward pass of a model, because this pass is slow.
        meter: the object that counts failed changes of the served version.

    Raises:
        SkytextError: a table does not exist, or the text embedding model cannot be loaded.
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
        """Return the models of a version if they are loaded, else None."""
        return self._kept.get(version)

    def of(self, version: VersionOfEach) -> VersionModels:
        """Return the models of a version. If they are not loaded, load them first.

        Raises:
            SkytextError: the version does not exist, or the text embedding model cannot be loaded.
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
        """Load the models of the promoted version, and use them for requests that name no version.

        Raises:
            SkytextError: for the same reasons as in `of`. After this error, the models of the
                previous version stay in use.
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
        """Load the models of the canary, so that the canary can answer searches.

        If there is no canary, do nothing.

        Raises:
            SkytextError: for the same reasons as in `of`.
        """
        version = followed_canary(self._opened, self._config.service.version)
        if version is not None:
            self.of(version)

    def _keep(self, models: VersionModels) -> None:
        self._kept[models.versions] = models
        self._kept.move_to_end(models.versions)
        if self._live.versions in self._kept:
            self._kept.move_to_end(self._live.versions)
        # Keep at least two versions: the live version and the version that was requested last.
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
        """Load the model that embeds queries for the image vectors of a version.

        If the model cannot be loaded, log the error.

        Returns:
            The model and the state of the model. The model is None if it cannot be loaded, or if
            the version has no image vectors that can be searched.
        """
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
            _log.error(
                "the modes image and image+dense are not available", extra={"error": problem}
            )
            return None, ImageModel(None, problem)
        return embedder, ImageModel(column.fingerprint, None)

    def _made(self, make: Callable[[], M]) -> M:
        """Load a model and run its first forward pass.

        Raises:
            ModelError: the model cannot be loaded.
        """
        try:
            model = make()
            self._warm(model)
        except (RuntimeError, MemoryError) as error:  # torch raises RuntimeError if memory is full
            said = str(error).partition("\n")[0] or type(error).__name__
            raise ModelError(
                f"a model for {self._uri} cannot be loaded ({said}): free memory, or make the "
                f"previous version live with the command: skytext rollback {self._uri}"
            ) from error
        return model
