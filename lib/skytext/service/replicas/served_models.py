"""The models that embed queries for the served versions.

Versions of a table may have different embedding models. A model is loaded when the first version
that needs it is promoted or requested, and released when no held version needs it.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from skytext.config.settings import Config
from skytext.errors import ModelError, SkytextError
from skytext.models.factory import make_table_embedder, make_table_image_embedder
from skytext.models.image_embedder import ImageEmbedder
from skytext.models.text_embedder import Embedder
from skytext.service.search_query import ImageModel
from skytext.service.telemetry.metrics import Meter
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation

_log = logging.getLogger("skytext.service.replicas.served_models")

M = TypeVar("M", Embedder, ImageEmbedder)


class VersionModels(NamedTuple):
    """The models of one version.

    Attributes:
        version: of the table.
        fingerprint: of the vector column that the queries of `text` fit.
        text: embeds queries into the space of descriptions.
        images: embeds queries into the space of image vectors; None if not loaded.
        image_model: the state of the image vectors' model.
    """

    version: int
    fingerprint: str
    text: Embedder
    images: ImageEmbedder | None
    image_model: ImageModel


class ServedModels:
    """Loads the models of versions, and keeps those that are needed.

    Args:
        location: the table.
        config: the served version, the number of held versions, and how to run models.
        warm: receives a newly loaded model, because its first forward pass is slow.
        meter: counts failed changes of the served version.

    Raises:
        SkytextError: no such table, or its model cannot be loaded.
    """

    def __init__(
        self,
        location: TableLocation,
        config: Config,
        warm: Callable[[Embedder | ImageEmbedder], None],
        meter: Meter,
    ) -> None:
        self._location = location
        self._config = config
        self._warm = warm
        self._meter = meter
        self._loading = threading.Lock()
        self._kept: OrderedDict[int, VersionModels] = OrderedDict()
        self._table = ImagesTable.open_served(location, config.service.version)
        self._live = self._load(self._table)
        self._keep(self._live)

    @property
    def live(self) -> VersionModels:
        """The models for requests that name no version."""
        return self._live

    def kept(self, version: int) -> VersionModels | None:
        """Return the models of a version if they are loaded."""
        return self._kept.get(version)

    def of(self, version: int) -> VersionModels:
        """Return the models of a version; blocks while they are loaded.

        Raises:
            SkytextError: no such version, or its model cannot be loaded.
        """
        with self._loading:
            return self._of(version)

    def _of(self, version: int) -> VersionModels:
        found = self._kept.get(version)
        if found is None:
            found = self._load(ImagesTable.open(self._location, version))
        self._keep(found)
        return found

    def refresh(self) -> None:
        """Follow a promotion or roll-back.

        Raises: as `of`; the models of the version before stay live.
        """
        if self._config.service.version is not None:
            return
        live = self._table.live_version()
        if live is None or live == self._live.version:
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
        if self._config.service.version is not None:
            return
        version = self._table.canary_version()
        if version is not None:
            self.of(version)

    def _keep(self, models: VersionModels) -> None:
        self._kept[models.version] = models
        self._kept.move_to_end(models.version)
        if self._live.version in self._kept:
            self._kept.move_to_end(self._live.version)
        # Keep at least the live version's models and the latest, to avoid loading them again.
        while len(self._kept) > max(2, self._config.service.held_versions):
            self._kept.popitem(last=False)

    def _load(self, table: ImagesTable) -> VersionModels:
        column = table.text_column
        there = (one for one in self._kept.values() if one.fingerprint == column.fingerprint)
        same = next(there, None)
        if same is None:
            text = self._made(
                lambda: make_table_embedder(self._location.uri, column, self._config.embed)
            )
        else:
            text = same.text
        images, image_model = self._images(table)
        return VersionModels(table.version, column.fingerprint, text, images, image_model)

    def _images(self, table: ImagesTable) -> tuple[ImageEmbedder | None, ImageModel]:
        """Load the model of a version's image vectors, if it has any; log a failure."""
        column, uri = table.image_column, self._location.uri
        if column is None:
            return None, ImageModel(None, None)
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
                f"a model of {self._location.uri} cannot be loaded: {said}; free memory, or go "
                f"back with `skytext rollback {self._location.uri}`"
            ) from error
        return model
