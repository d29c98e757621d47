"""The workers that run models.

The workers are normal classes. Ray Serve deploys these classes, and tests call them directly.
"""

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
"""A text and the version to search. If the version is None, the live version is searched."""
Item = tuple[str, VersionModels]
"""A text and the models that embed it."""
_WAIT_S = 1.0
"""The maximum time that a request waits while the models of a version are loaded. If the models
are already loaded for another version, this time is enough to open the version."""


class EmbeddingWorker:
    """Embeds queries with the models of the served versions.

    If the model for the image vectors cannot be loaded, searches of the descriptions still work. If
    a method refuses a request, it returns a `skytext.service.replicas.refusals.Refusal`.

    Raises:
        SkytextError: a table does not exist, or its text embedding model cannot be loaded.
    """

    def __init__(self, tables: TableSet, config: Config, meter: Meter) -> None:
        self._meter = meter
        # One thread is enough, because the model uses all available cores for one batch.
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
        # The first forward pass in a thread is slow, so run a test query in the embedding thread.
        self._thread.submit(model.embed_queries, [TRIAL]).result()

    @hands_back_refusals
    async def embed_one(self, asked: Asked) -> Embedded:
        """Embed a text with the model of the version to search.

        Args:
            asked: the text and the version. If the version is None, the live version is searched.

        Raises:
            ProblemError: 503: the model of this version is not loaded yet.
        """
        text, version = asked
        # Load the model before the text is added to a batch. Otherwise the other texts in the
        # batch would wait until the model is loaded.
        embedded = await self.in_batch((text, await self._models(version)))
        if isinstance(embedded, BaseException):
            raise embedded
        return embedded

    async def in_batch(self, item: Item) -> Embedded | BaseException:
        """Return the vector of a text.

        The deployment overrides this method, so that several texts are embedded in one batch.
        """
        return (await self.embed([item]))[0]

    async def embed(self, items: Sequence[Item]) -> list[Embedded | BaseException]:
        """Return the vector of each text. If the model fails, return the error instead."""
        self._meter.observe("skytext_embed_batch_size", len(items))
        by_model = {models.fingerprint: models.text for _, models in items}
        texts = {
            model: [text for text, models in items if models.fingerprint == model]
            for model in by_model
        }
        outcomes = await asyncio.gather(
            *(self._run(by_model[model].embed_queries, some) for model, some in texts.items()),
            return_exceptions=True,  # if one model fails, the texts of other models must not fail
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
        """Embed descriptions with the model of a version.

        Raises:
            ProblemError: for the same reasons as in `embed_one`.
        """
        models = await self._models(version)
        embedded = await self._run(models.text.embed_documents, list(texts))
        return [Embedded(models.fingerprint, vector) for vector in embedded.vectors]

    async def image_model(self) -> ImageModel:
        """Return the state of the model that embeds queries for the image vectors.

        This is the model for the live version.
        """
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
        # After this timeout, loading continues in the background for later requests.
        await asyncio.wait([loading], timeout=_WAIT_S)
        models = loading.result() if loading.done() else None
        if models is None:
            raise model_not_loaded()
        return models

    async def _load(self, version: VersionOfEach) -> VersionModels | None:
        """Load the models of a version that a request names. If loading fails, return None."""
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
        """Embed queries for a search of the image vectors. The results have unit length.

        Args:
            texts: the queries.
            version: the version to search. None means the live version.

        Raises:
            ProblemError: 501: the model for the image vectors is not loaded. 503: for the same
                reasons as in `embed_one`.
        """
        models = await self._models(version)
        fingerprint = models.image_model.fingerprint
        if models.images is None or fingerprint is None:
            why = models.image_model.problem or "the table has no image vectors"
            raise ProblemError(
                501, "no-image-search", f"this service cannot search the image vectors: {why}"
            )
        vectors = await self._run(models.images.embed_queries, list(texts))
        return ImageQueries(fingerprint, dict(zip(texts, vectors, strict=True)))


class CaptionWorker:
    """Describes uploaded images with the caption model and the prompt in the settings.

    If a method refuses a request, it returns a `skytext.service.replicas.refusals.Refusal`.
    """

    private_names: Mapping[str, str] = {}

    def __init__(self, config: Config, meter: Meter) -> None:
        caption = config.caption
        model = caption_model(caption)
        self._captioner = make_captioner(caption, model, prompt_of(caption))
        self._limits = ImageLimits.of(config.images)
        self._meter = meter

    async def start(self) -> None:
        """Start the captioning engine if it is not running yet.

        Raises:
            SkytextError: the engine cannot start, or the engine has failed.
        """
        await self._captioner.start()

    @hands_back_refusals
    async def describe(self, data: bytes, key: str) -> list[str]:
        """Describe an image, and return the descriptions as query texts.

        Args:
            data: the encoded image.
            key: a name for the image.

        Raises:
            ProblemError: 422: the image cannot be decoded or described.
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
        """Stop the engine."""
        self._captioner.close()
