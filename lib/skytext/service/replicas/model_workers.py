"""What runs models, behind the ingress: plain classes, which Ray Serve deploys and tests call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from skytext.captions.parsing import document_text
from skytext.config.settings import Config
from skytext.errors import SampleError
from skytext.models.checkpoints import caption_model
from skytext.models.factory import make_captioner
from skytext.models.fingerprints import prompt_of
from skytext.models.image_embedder import ImageEmbedder
from skytext.models.text_embedder import Embedder
from skytext.pixels.decode import ImageLimits, decode_rgb, normalise
from skytext.service.problem_details import ProblemError
from skytext.service.replicas.refusals import hands_back_refusals
from skytext.service.replicas.served_models import ServedModels, VersionModels
from skytext.service.replicas.served_versions import Follower
from skytext.service.search_query import TRIAL, Embedded, ImageModel, ImageQueries
from skytext.service.telemetry.metrics import Meter, timed
from skytext.table.location import TableLocation

T = TypeVar("T")
Asked = tuple[str, int | None]
"""A text, and the version to search; None for the live one."""


class EmbeddingWorker:
    """Embeds queries with the models of the versions of a table that are served.

    Where the model of the images' own vectors cannot be loaded, all other searches go on without
    it. What cannot be embedded comes back as a `skytext.service.replicas.refusals.Refusal`.

    Raises:
        SkytextError: there is no such table, or its model cannot be loaded.
    """

    def __init__(self, table: str, config: Config, meter: Meter) -> None:
        location = TableLocation.parse(table)
        self._meter = meter
        # One thread: the model uses all cores that it may for one batch.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embed")
        self.private_names = (location.uri, location.uri.lstrip("/"))
        self.models = ServedModels(location, config, self._warm)
        self._loading = asyncio.Lock()
        self.follower = Follower(
            {"cannot load the model of the live version": self.models.refresh},
            config.service.poll_interval_s,
        )

    def _warm(self, model: Embedder | ImageEmbedder) -> None:
        # The first forward pass is slow, and of the thread that makes it.
        self._thread.submit(model.embed_queries, [TRIAL]).result()

    async def embed(self, asked: Sequence[Asked]) -> list[Embedded]:
        """Return each text as a vector, by the model of the version that it is to be searched in.

        Args:
            asked: texts and versions; None for the live version.
        """
        self._meter.observe("skytext_embed_batch_size", len(asked))
        found: dict[Asked, Embedded] = {}
        for version in dict.fromkeys(version for _, version in asked):
            texts = [text for text, of_version in asked if of_version == version]
            models = await self._models(version)
            vectors = await self._run(models.text.embed_queries, texts)
            for text, vector in zip(texts, vectors, strict=True):
                found[text, version] = Embedded(models.fingerprint, vector)
        return [found[one] for one in asked]

    async def embed_documents(
        self, texts: Sequence[str], version: int | None = None
    ) -> list[Embedded]:
        """Return each description as a vector, as those of a version were made."""
        models = await self._models(version)
        embedded = await self._run(models.text.embed_documents, list(texts))
        return [Embedded(models.fingerprint, vector) for vector in embedded.vectors]

    async def image_model(self) -> ImageModel:
        """Return what is known of the model of the images' own vectors, of the live version."""
        return self.models.live.image_model

    async def _models(self, version: int | None) -> VersionModels:
        if version is None:
            return self.models.live
        kept = self.models.kept(version)
        if kept is not None:
            return kept
        async with self._loading:
            return await asyncio.to_thread(self.models.of, version)

    async def _run(self, embed: Callable[[list[str]], T], texts: list[str]) -> T:
        with timed(self._meter, "embed"):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, embed, texts)

    @hands_back_refusals
    async def image_queries(self, texts: Sequence[str], version: int | None = None) -> ImageQueries:
        """Return the unit vectors of queries in the space of a version's own image vectors.

        Raises:
            ProblemError: 501: the model of these is not loaded.
        """
        models = await self._models(version)
        fingerprint = models.image_model.fingerprint
        if models.images is None or fingerprint is None:
            why = models.image_model.problem or "the table has no image vectors"
            raise ProblemError(
                501, "no-image-search", f"images are not searched by their own vectors here: {why}"
            )
        vectors = await self._run(models.images.embed_queries, list(texts))
        return ImageQueries(fingerprint, dict(zip(texts, vectors, strict=True)))


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
