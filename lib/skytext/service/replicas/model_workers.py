"""What runs models, behind the ingress: plain classes, which Ray Serve deploys and tests call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from skytext.captions.parsing import document_text
from skytext.config.settings import Config
from skytext.errors import SampleError, SkytextError
from skytext.models.checkpoints import caption_model
from skytext.models.factory import make_captioner
from skytext.models.fingerprints import prompt_of
from skytext.models.image_embedder import ImageEmbedder
from skytext.models.text_embedder import Embedder
from skytext.pixels.decode import ImageLimits, decode_rgb, normalise
from skytext.service.problem_details import ProblemError, model_not_loaded
from skytext.service.replicas.refusals import hands_back_refusals
from skytext.service.replicas.served_models import ServedModels, VersionModels
from skytext.service.replicas.served_versions import Follower
from skytext.service.search_query import TRIAL, Embedded, ImageModel, ImageQueries
from skytext.service.served_tables import TableSet, VersionOfEach, version_token
from skytext.service.telemetry.metrics import Meter, timed

_log = logging.getLogger("skytext.service.replicas.model_workers")

T = TypeVar("T")
Asked = tuple[str, VersionOfEach | None]
"""A text, and the version to search; None for the live one."""
Item = tuple[str, VersionModels]
"""A text, and the models that embed it."""
_WAIT_S = 1.0
"""How long a request waits for a model: enough to open a version whose model is loaded."""


class EmbeddingWorker:
    """Embeds queries with the models of the versions that are served.

    Where the model of the images' own vectors cannot be loaded, all other searches go on without
    it. What cannot be embedded comes back as a `skytext.service.replicas.refusals.Refusal`.

    Raises:
        SkytextError: there is no such table, or its model cannot be loaded.
    """

    def __init__(self, tables: TableSet, config: Config, meter: Meter) -> None:
        self._meter = meter
        # One thread: the model uses all cores that it may for one batch.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embed")
        self.private_names = tables.private_names
        self.models = ServedModels(tables, config, self._warm, meter)
        self._loads: dict[VersionOfEach, asyncio.Task[VersionModels | None]] = {}
        self.follower = Follower(
            {
                "cannot load the model of the live version": self.models.refresh,
                "cannot load the model of the canary": self.models.load_canary,
            },
            config.service.poll_interval_s,
        )

    def _warm(self, model: Embedder | ImageEmbedder) -> None:
        # The first forward pass is slow, and of the thread that makes it.
        self._thread.submit(model.embed_queries, [TRIAL]).result()

    @hands_back_refusals
    async def embed_one(self, asked: Asked) -> Embedded:
        """Return a text as a vector, by the model of the version that it is to be searched in.

        Args:
            asked: the text and the version; None for the live version.

        Raises:
            ProblemError: 503: the model of this version is not loaded; it is being loaded.
        """
        text, version = asked
        # Before the text joins a batch: the other texts of the batch do not wait for a model.
        embedded = await self.in_batch((text, await self._models(version)))
        if isinstance(embedded, BaseException):
            raise embedded
        return embedded

    async def in_batch(self, item: Item) -> Embedded | BaseException:
        """Return a text as a vector; a deployment embeds the texts of many requests at once."""
        return (await self.embed([item]))[0]

    async def embed(self, items: Sequence[Item]) -> list[Embedded | BaseException]:
        """Return each text as a vector, or why its model did not embed it."""
        self._meter.observe("skytext_embed_batch_size", len(items))
        by_model = {models.fingerprint: models.text for _, models in items}
        texts = {
            model: [text for text, models in items if models.fingerprint == model]
            for model in by_model
        }
        outcomes = await asyncio.gather(
            *(self._run(by_model[model].embed_queries, some) for model, some in texts.items()),
            return_exceptions=True,  # a model that fails does not fail the texts of the others
        )
        found: dict[tuple[str, str], Embedded | BaseException] = {}
        for (model, some), outcome in zip(texts.items(), outcomes, strict=True):
            for place, text in enumerate(some):
                if isinstance(outcome, BaseException):
                    found[text, model] = outcome
                else:
                    found[text, model] = Embedded(model, outcome[place])
        return [found[text, models.fingerprint] for text, models in items]

    @hands_back_refusals
    async def embed_documents(
        self, texts: Sequence[str], version: VersionOfEach | None = None
    ) -> list[Embedded]:
        """Return each description as a vector, as those of a version were made.

        Raises:
            ProblemError: 503: as `embed_one`.
        """
        models = await self._models(version)
        embedded = await self._run(models.text.embed_documents, list(texts))
        return [Embedded(models.fingerprint, vector) for vector in embedded.vectors]

    async def image_model(self) -> ImageModel:
        """Return what is known of the model of the images' own vectors, of the live version."""
        return self.models.live.image_model

    async def _models(self, version: VersionOfEach | None) -> VersionModels:
        if version is None:
            return self.models.live
        kept = self.models.kept(version)
        if kept is not None:
            return kept
        loading = self._loads.get(version)
        if loading is None:
            loading = self._loads[version] = asyncio.create_task(self._load(version))
        # It goes on without this request: a request that comes again finds the model.
        await asyncio.wait([loading], timeout=_WAIT_S)
        models = loading.result() if loading.done() else None
        if models is None:
            raise model_not_loaded()
        return models

    async def _load(self, version: VersionOfEach) -> VersionModels | None:
        """Load the models of a version that a request names; None where that fails."""
        try:
            return await asyncio.to_thread(self.models.of, version)
        except (SkytextError, OSError, ValueError) as error:
            _log.error(
                "cannot load the model of a version that a request names",
                extra={"version": version_token(version), "error": str(error)},
            )
            return None
        finally:
            del self._loads[version]

    async def _run(self, embed: Callable[[list[str]], T], texts: list[str]) -> T:
        with timed(self._meter, "embed"):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, embed, texts)

    @hands_back_refusals
    async def image_queries(
        self, texts: Sequence[str], version: VersionOfEach | None = None
    ) -> ImageQueries:
        """Return the unit vectors of queries in the space of a version's own image vectors.

        Raises:
            ProblemError: 501: the model of these is not loaded. 503: as `embed_one`.
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

    private_names: Mapping[str, str] = {}

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
