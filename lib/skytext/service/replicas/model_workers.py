"""What runs models, behind the ingress: plain classes, which Ray Serve deploys and tests call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from skytext.captions.parsing import document_text
from skytext.config.settings import Config
from skytext.errors import SampleError, SkytextError
from skytext.models.checkpoints import caption_model
from skytext.models.factory import make_captioner, make_table_embedder, make_table_image_embedder
from skytext.models.fingerprints import prompt_of
from skytext.models.image_embedder import ImageEmbedder
from skytext.pixels.decode import ImageLimits, decode_rgb, normalise
from skytext.service.problem_details import ProblemError
from skytext.service.replicas.refusals import hands_back_refusals
from skytext.service.search_query import TRIAL, ImageModel, ImageQueries
from skytext.service.telemetry.metrics import Meter, timed
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation

_log = logging.getLogger("skytext.service.replicas.model_workers")


class EmbeddingWorker:
    """Embeds queries with the models of a table.

    Where the model of the images' own vectors cannot be loaded, all other searches go on without
    it. What cannot be embedded comes back as a `skytext.service.replicas.refusals.Refusal`.

    Raises:
        SkytextError: there is no such table, or its model cannot be loaded.
    """

    def __init__(self, table: str, config: Config, meter: Meter) -> None:
        location = TableLocation.parse(table)
        opened = ImagesTable.open_served(location, config.service.version)
        self._embedder = make_table_embedder(location.uri, opened.text_column, config.embed)
        self._meter = meter
        # One thread: the model uses all cores that it may for one batch.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embed")
        self._images, self._image_model = _image_embedder(opened, config)
        self.private_names = (location.uri, location.uri.lstrip("/"))
        # The first forward pass is slow, and of the thread that makes it.
        self._thread.submit(self._embedder.embed_queries, [TRIAL]).result()
        if self._images is not None:
            self._thread.submit(self._images.embed_queries, [TRIAL]).result()

    async def embed(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Return the unit vector of each text, float32, shape (dim,)."""
        loop = asyncio.get_running_loop()
        self._meter.observe("skytext_embed_batch_size", len(texts))
        with timed(self._meter, "embed"):
            vectors = await loop.run_in_executor(
                self._thread, self._embedder.embed_queries, list(texts)
            )
        return list(vectors)

    async def embed_documents(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Return the unit vector of each description, as those of the table were made."""
        loop = asyncio.get_running_loop()
        with timed(self._meter, "embed"):
            embedded = await loop.run_in_executor(
                self._thread, self._embedder.embed_documents, list(texts)
            )
        return list(embedded.vectors)

    async def image_model(self) -> ImageModel:
        """Return what is known of the model of the images' own vectors."""
        return self._image_model

    @hands_back_refusals
    async def image_queries(self, texts: Sequence[str]) -> ImageQueries:
        """Return the unit vectors of queries in the space of the images' own vectors.

        Raises:
            ProblemError: 501: the model of these is not loaded.
        """
        fingerprint = self._image_model.fingerprint
        if self._images is None or fingerprint is None:
            why = self._image_model.problem or "the table has no image vectors"
            raise ProblemError(
                501, "no-image-search", f"images are not searched by their own vectors here: {why}"
            )
        loop = asyncio.get_running_loop()
        with timed(self._meter, "embed"):
            vectors = await loop.run_in_executor(
                self._thread, self._images.embed_queries, list(texts)
            )
        return ImageQueries(fingerprint, dict(zip(texts, vectors, strict=True)))


def _image_embedder(table: ImagesTable, config: Config) -> tuple[ImageEmbedder | None, ImageModel]:
    """Load the model of a version's image vectors, if it has some; say so where that fails."""
    column, uri = table.image_column, table.location.uri
    if column is None:
        return None, ImageModel(None, None)
    try:
        embedder = make_table_image_embedder(
            uri, column, config=config.image_embed, images=config.images
        )
    except SkytextError as error:
        problem = str(error).replace(uri, "TABLE")
        _log.error("modes image and image+dense are not offered", extra={"error": problem})
        return None, ImageModel(None, problem)
    return embedder, ImageModel(column.fingerprint, None)


class CaptionWorker:
    """Describes uploaded images as those of the archive were described.

    What cannot be described comes back as a `skytext.service.replicas.refusals.Refusal`.
    """

    private_names: tuple[str, ...] = ()

    def __init__(self, config: Config, meter: Meter) -> None:
        caption = config.caption
        model = caption_model(caption)
        self._captioner = make_captioner(caption, model, prompt_of(caption))
        self._limits = ImageLimits.of(config.images)
        self._meter = meter

    async def start(self) -> None:
        """Start the engine, if that is not done yet.

        Raises:
            SkytextError: the model cannot be served, or can be no more.
        """
        await self._captioner.start()

    @hands_back_refusals
    async def describe(self, data: bytes, key: str) -> list[str]:
        """Return the descriptions of an image, as texts to search with.

        Args:
            data: encoded.
            key: names the image.

        Raises:
            ProblemError: 422: it cannot be described.
        """
        try:
            with timed(self._meter, "caption"):
                normalised = await asyncio.to_thread(normalise, data, self._limits)
                image = await asyncio.to_thread(decode_rgb, normalised.data)
                described = await self._captioner.describe(image, key)
        except SampleError as error:
            raise ProblemError(422, "not-describable", error.detail) from error
        return [document_text(variant) for variant in described.variants]

    def close(self) -> None:
        """End the engine."""
        self._captioner.close()
