"""Fakes of the engine and the embedder: fast, deterministic, and able to fail on demand.

They ship with the package so that users can test their own jobs without a model. They are named
as models: ``fake`` or ``fake:delay_s=0.01,fail=0.02,die_on=3f2a+90c1``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skytext.captions.captioner import Answer, Ask, EngineInfo, Generation
from skytext.captions.parsing import FIELDS
from skytext.config.captioning import FAKE_MODEL_PREFIX
from skytext.errors import ConfigError, Reason, SampleError, Stage
from skytext.models.fakes.engine_client import FakeProcess
from skytext.models.text_embedder import EmbedderInfo, Embeddings
from skytext.models.vllm.processes import EngineProcesses, start_limit

_SHARES = ("fail", "empty", "repeat", "truncate", "die", "hang")
_PREFIXES = ("die_on", "hang_on")
_DIGESTS = re.compile(r"[0-9a-f]{1,64}(\+[0-9a-f]{1,64})*")
_PROMPT_TOKENS, _ANSWER_TOKENS = 100, 90


@dataclass(frozen=True, slots=True)
class FakeOptions:
    """What a fake engine does wrong, mostly as shares of the images, decided by their pixels.

    Attributes:
        delay_s: seconds an answer takes.
        fail: share that the engine refuses.
        empty: share of answers that hold an empty field.
        repeat: share of images all of whose answers are equal.
        truncate: share of images whose first answers are cut off.
        die: share of images that end the engine's process.
        hang: share of images at which the engine's process stops answering.
        die_on: digests of pixels (`pixel_digest`), or their first digits, joined by ``+``: these
            images end the engine's process.
        hang_on: such digests of images at which it stops answering.
        start_s: seconds the engine takes to come up.
        journal: a file that gets a line, the digest of the pixels, for each request answered: how
            often a model was asked, whatever became of the answers.
    """

    delay_s: float = 0.0
    fail: float = 0.0
    empty: float = 0.0
    repeat: float = 0.0
    truncate: float = 0.0
    die: float = 0.0
    hang: float = 0.0
    die_on: str = ""
    hang_on: str = ""
    start_s: float = 0.0
    journal: str = ""

    @classmethod
    def parse(cls, name: str) -> FakeOptions:
        """Read a fake model's name.

        Raises:
            ConfigError: an unknown option, or a value that it cannot have.
        """
        _, _, text = name.partition(":")
        try:
            pairs = dict(part.split("=", 1) for part in text.split(",") if part)
            texts = {key: value for key, value in pairs.items() if key in (*_PREFIXES, "journal")}
            numbers = {key: float(value) for key, value in pairs.items() if key not in texts}
            options = cls(**numbers, **texts)  # type: ignore[arg-type]
            if (
                not all(0 <= seconds < math.inf for seconds in (options.delay_s, options.start_s))
                or not all(0 <= getattr(options, share) <= 1 for share in _SHARES)
                or not all(_DIGESTS.fullmatch(texts[key]) for key in _PREFIXES if key in texts)
            ):
                raise ValueError("out of range")
            return options
        except (TypeError, ValueError) as error:
            known = ", ".join(cls.__dataclass_fields__)
            raise ConfigError(
                f"model {name!r}: a fake is written {FAKE_MODEL_PREFIX}:OPTION=VALUE,… with "
                f"options {known}; die_on and hang_on take hexadecimal digits, journal a "
                "file, the others numbers"
            ) from error


def pixel_digest(image: Image.Image) -> str:
    """Return the SHA-256 of an image's pixels, hexadecimal: what a fake engine goes by."""
    return hashlib.sha256(image.tobytes()).hexdigest()


class FakeEngine:
    """Answers from the image's pixels alone, in a process of its own as a real engine does.

    Args:
        options: what it does wrong.
        processes: where to note its process.
        start_timeout_s: longest start, in seconds.

    Raises:
        JobError: the start takes longer.
    """

    info = EngineInfo(engine_version="fake 1", device="cpu", precision="none")

    def __init__(
        self,
        options: FakeOptions,
        processes: EngineProcesses | None = None,
        start_timeout_s: float = 60.0,
    ) -> None:
        self.num_requests = 0
        self.num_signs = 0
        self._processes = processes or EngineProcesses()
        self._process = FakeProcess(dataclasses.asdict(options), FIELDS)
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            with start_limit(self._processes, start_timeout_s):
                self._process.wait_until_ready()
            self._processes.settle()
            undo.pop_all()

    async def generate(self, image: Image.Image, ask: Ask) -> Generation:
        """Answer one request.

        Raises:
            SampleError: for the share of images that `FakeOptions.fail` names.
            EngineDiedError: its process is gone.
        """
        self.num_requests += 1
        reply = await self._process.ask({"digest": pixel_digest(image), **_asked(ask)})
        self.num_signs += 1
        if "refused" in reply:
            raise SampleError(Stage.CAPTION, Reason.ENGINE_REFUSED, reply["refused"])
        answers = [Answer(text, finish_reason) for text, finish_reason in reply["answers"]]
        num_tokens = _ANSWER_TOKENS * ask.num_samples * ask.objects_per_answer
        return Generation(answers, _PROMPT_TOKENS, 0, num_tokens)

    async def check(self) -> None:
        """Nothing to try."""

    def close(self) -> None:
        """End its process, whatever it does, and wait until it is gone."""
        self._processes.kill()
        self._process.close()
        self._processes.end()


def _asked(ask: Ask) -> dict[str, float]:
    return {
        "num_samples": ask.num_samples,
        "objects_per_answer": ask.objects_per_answer,
        "temperature": ask.temperature,
        "max_tokens": ask.max_tokens,
    }


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


class FakeImageEmbedder:
    """Goes by colour: a reddish image is near the word red, and so for green and blue.

    Args:
        options: of these ``delay_s`` (an image) and ``journal`` (a line an image, the digest of its
            pixels) are heeded.
    """

    info = EmbedderInfo(device="cpu", precision="float32")
    dim = 8
    _colours = ("red", "green", "blue")

    def __init__(self, options: FakeOptions | None = None) -> None:
        self._options = options or FakeOptions()

    def embed_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Embed RGB images: float32, shape (images, dim), unit length."""
        return self._unit([self._of_image(image) for image in images])

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed queries: float32, shape (texts, dim), unit length."""
        return self._unit([self._of_text(text) for text in texts])

    def _of_image(self, image: Image.Image) -> NDArray[np.float64]:
        time.sleep(self._options.delay_s)
        digest = pixel_digest(image)
        if self._options.journal:
            with open(self._options.journal, "a", encoding="ascii") as journal:
                journal.write(f"{digest}\n")
        colour = np.asarray(image, dtype=np.float64).mean(axis=(0, 1)) / 255
        # Images of one colour differ a little all the same.
        rest = np.random.default_rng(int(digest[:8], 16)).normal(size=self.dim - 3)
        return np.concatenate([colour - colour.mean() + 1e-3, 0.02 * rest])

    def _of_text(self, text: str) -> NDArray[np.float64]:
        words = [word.strip(".,:;") for word in text.lower().split()]
        counts = np.array([words.count(colour) for colour in self._colours], dtype=np.float64)
        return np.concatenate([counts - counts.mean() + 1e-3, np.zeros(self.dim - 3)])

    def _unit(self, rows: list[NDArray[np.float64]]) -> NDArray[np.float32]:
        vectors = np.array(rows).reshape(-1, self.dim)
        unit: NDArray[np.float32] = (
            vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        ).astype(np.float32)
        return unit
