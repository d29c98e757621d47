"""Make answers of a fixed length, because a model with dummy weights writes random tokens.

The product has no setting for this. The benchmark passes an engine class and a parser of its own to
the job, through `CaptionPlan.make_captioner` and the argument ``parse`` of `SupervisedCaptioner`.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from PIL import Image

from skytext.captions.captioner import Ask, Captioner
from skytext.captions.parsing import Variant
from skytext.captions.prompts import Prompt
from skytext.config.captioning import CaptionConfig
from skytext.models.checkpoints import ModelIdentity
from skytext.models.vllm.engine import VllmEngine
from skytext.models.vllm.supervisor import SupervisedCaptioner

_WARM_UP_IMAGES = 16
_WARM_UP_TOKENS = 16
# Number of words in a description of about 130 tokens. Random tokens form longer words. A text that
# is too long for the embedder would cost more time than a real description.
_WORDS_OF_A_VARIANT = 90


class FixedLengthEngine(VllmEngine):
    """An engine that writes exactly ``max_tokens`` tokens per answer.

    Attributes:
        structured: whether to enforce the format of answers with a token mask instead. An answer
            may then be shorter. But a model with dummy weights rarely closes a text, so nearly all
            answers still have ``max_tokens`` tokens.
    """

    structured = False

    def sampling(self, ask: Ask) -> Any:
        """Convert an `Ask` to vLLM's parameters."""
        params = super().sampling(ask)
        if not self.structured:
            params.structured_outputs = None
            params.ignore_eos = True
        return params

    async def check(self) -> None:
        """Describe a blank image, and then 16 images at once.

        This compiles all kernels before the measurement.
        """
        await super().check()
        blank = Image.new("RGB", (336, 336))
        ask = Ask(self._config.num_variants, 1, 1.0, _WARM_UP_TOKENS, None)
        await asyncio.gather(*(self.generate(blank, ask) for _ in range(_WARM_UP_IMAGES)))


class AcceptAnything:
    """A parser that accepts any answer. It returns valid variants that are all different.

    Args:
        variants_per_answer: number of variants to make from each answer.
    """

    def __init__(self, variants_per_answer: int) -> None:
        self._variants_per_answer = variants_per_answer
        self._numbers = itertools.count()

    def __call__(self, text: str, finish_reason: str | None) -> list[Variant]:
        """Return variants that contain the first words of the answer."""
        words = text.split()[:_WORDS_OF_A_VARIANT] or ["nothing"]
        third = max(1, len(words) // 3)
        parts = [" ".join(words[i : i + third]) or "nothing" for i in (0, third, 2 * third)]
        return [
            Variant(f"{next(self._numbers)} {parts[0]}", parts[1], parts[2], str(finish_reason))
            for _ in range(self._variants_per_answer)
        ]


def make_fixed_captioner(config: CaptionConfig, model: ModelIdentity, prompt: Prompt) -> Captioner:
    """Make a captioner with answers of fixed length. See `factory.CaptionerFactory`."""
    per_answer = config.num_variants if config.variants_by == "one_request" else 1

    return SupervisedCaptioner(
        config,
        lambda processes: FixedLengthEngine(config, model, prompt, processes),
        AcceptAnything(per_answer),
    )
