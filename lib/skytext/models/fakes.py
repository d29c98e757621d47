"""Fakes of the engine and the embedder: fast, deterministic, and able to fail on demand.

They ship with the package so that users can test their own jobs without a model. They are named
as models: ``fake`` or ``fake:delay_s=0.01,fail=0.02,empty=0.1``.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skytext.captions import FIELDS
from skytext.config import FAKE_MODEL_PREFIX
from skytext.errors import ConfigError, Reason, SampleError, Stage
from skytext.models.captioner import Answer, Ask, EngineInfo, Generation
from skytext.models.embedder import EmbedderInfo, Embeddings

_WORDS = [
    "river",
    "forest",
    "road",
    "field",
    "harbour",
    "runway",
    "storage",
    "tank",
    "bridge",
    "village",
    "lake",
    "desert",
    "snow",
    "beach",
    "stadium",
    "factory",
    "railway",
    "canal",
    "orchard",
    "solar",
]


@dataclass(frozen=True, slots=True)
class FakeOptions:
    """What a fake engine does wrong, each as a share of the images, decided by their pixels.

    Attributes:
        delay_s: seconds an answer takes.
        fail: share that the engine refuses.
        empty: share of answers that hold an empty field.
        repeat: share of images all of whose answers are equal.
        truncate: share of images whose first answers are cut off.
    """

    delay_s: float = 0.0
    fail: float = 0.0
    empty: float = 0.0
    repeat: float = 0.0
    truncate: float = 0.0

    @classmethod
    def parse(cls, name: str) -> FakeOptions:
        """Read a fake model's name.

        Raises:
            ConfigError: an unknown option, or a value that is no number.
        """
        _, _, text = name.partition(":")
        try:
            pairs = dict(part.split("=", 1) for part in text.split(",") if part)
            options = cls(**{key: float(value) for key, value in pairs.items()})
            if not 0 <= options.delay_s < math.inf or any(
                not 0 <= getattr(options, name) <= 1
                for name in ("fail", "empty", "repeat", "truncate")
            ):
                raise ValueError("out of range")
            return options
        except (TypeError, ValueError) as error:
            known = ", ".join(cls.__dataclass_fields__)
            raise ConfigError(
                f"model {name!r}: a fake is written {FAKE_MODEL_PREFIX}:OPTION=NUMBER,… with "
                f"options {known}"
            ) from error


class FakeEngine:
    """Answers from the image's pixels alone."""

    info = EngineInfo(engine_version="fake 1", device="cpu", precision="none")

    def __init__(self, options: FakeOptions) -> None:
        self._options = options
        self.num_requests = 0

    async def generate(self, image: Image.Image, ask: Ask) -> Generation:
        """Answer one request.

        Raises:
            SampleError: for the share of images that `FakeOptions.fail` names.
        """
        self.num_requests += 1
        if self._options.delay_s:
            await asyncio.sleep(self._options.delay_s)
        digest = hashlib.sha256(image.tobytes())
        luck = int.from_bytes(digest.digest()[:4], "big") / 2**32
        if luck < self._options.fail:
            raise SampleError(Stage.CAPTION, Reason.ENGINE_REFUSED, "the fake was told to refuse")
        answers = [self._answer(digest.hexdigest(), luck, i, ask) for i in range(ask.num_samples)]
        return Generation(answers, 100, 0, 90 * ask.num_samples * ask.objects_per_answer)

    async def check(self) -> None:
        """Nothing to try."""

    def close(self) -> None:
        """Nothing to stop."""

    def _answer(self, seed: str, luck: float, sample: int, ask: Ask) -> Answer:
        objects = [
            self._object(seed, luck, sample * ask.objects_per_answer + i, ask)
            for i in range(ask.objects_per_answer)
        ]
        text = json.dumps(objects[0] if len(objects) == 1 else {"variants": objects})
        if luck < self._options.truncate and ask.max_tokens <= 512 * ask.objects_per_answer:
            return Answer(text[: len(text) // 2], "length")
        return Answer(text, "stop")

    def _object(self, seed: str, luck: float, variant: int, ask: Ask) -> dict[str, str]:
        repeat = luck < self._options.repeat
        key = seed if repeat else f"{seed}{variant}{ask.temperature:.2f}"
        rng = np.random.default_rng(int(hashlib.sha256(key.encode()).hexdigest()[:8], 16))
        found = {name: " ".join(rng.choice(_WORDS, size=6)) for name in FIELDS}
        if rng.random() < self._options.empty:
            found["feature"] = " "
        return found


class FakeEmbedder:
    """Maps each word to a fixed random direction: texts that share words are near."""

    info = EmbedderInfo(device="cpu", precision="float32")
    max_words = 256

    def __init__(self, dim: int = 16) -> None:
        self.dim = dim

    def embed_documents(self, texts: Sequence[str]) -> Embeddings:
        """Embed descriptions."""
        truncated = np.array([len(text.split()) > self.max_words for text in texts], dtype=np.bool_)
        return Embeddings(self.embed_queries(texts), truncated)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed queries: float32, shape (texts, dim), unit length."""
        vectors = np.array([self._sum_of_words(text) for text in texts]).reshape(-1, self.dim)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: NDArray[np.float32] = (vectors / np.maximum(norms, 1e-12)).astype(np.float32)
        return unit

    def _sum_of_words(self, text: str) -> NDArray[np.float64]:
        # A text without words has a direction, too: a zero vector is not of unit length.
        total = np.full(self.dim, 1e-6)
        for word in text.lower().split()[: self.max_words]:
            seed = int(hashlib.sha256(word.strip(".,:;").encode()).hexdigest()[:8], 16)
            total += np.random.default_rng(seed).normal(size=self.dim)
        return total
