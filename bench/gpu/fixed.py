"""Make answers of a fixed length.

This is needed because a model with dummy weights writes random tokens.

The product has no setting for this. The benchmark has its own engine class and its own parser. They
are passed to the job through `CaptionPlan.make_captioner` and through the argument ``parse`` of
`SupervisedCaptioner`.
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
# Number of words in a description of about 130 tokens. Random tokens form longer words than real
# text. Without this limit, the embedder would need more time for a text than for a real
# description.
_WORDS_OF_A_VARIANT = 90


class FixedLengthEngine(VllmEngine):
    """An engine that writes exactly ``max_tokens`` tokens for each answer.

    Attributes:
        structured: true if a token mask enforces the format of answers. The length is then not
            enforced, and an answer may be shorter. But a model with dummy weights rarely ends a
            text, so nearly all answers have ``max_tokens`` tokens.
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
        """Describe one blank image, and then 16 blank images at the same time.

        After this call, all kernels are compiled, so that compilation is not measured.
        """
        await super().check()
        blank = Image.new("RGB", (336, 336))
        ask = Ask(self._config.num_variants, 1, 1.0, _WARM_UP_TOKENS, None)
        await asyncio.gather(*(self.generate(blank, ask) for _ in range(_WARM_UP_IMAGES)))


class AcceptAnything:
    """A parser that accepts every answer, and returns different valid variants.

    Args:
        variants_per_answer: number of variants that are made from each answer.
    """

    def __init__(self, variants_per_answer: int) -> None:
        self._variants_per_answer = variants_per_answer
        self._numbers = itertools.count()

    def __call__(self, text: str, finish_reason: str | None) -> list[Variant]:
        """Return variants that consist of the first words of the answer."""
        words = text.split()[:_WORDS_OF_A_VARIANT] or ["nothing"]
        third = max(1, len(words) // 3)
        parts = [" ".join(words[i : i + third]) or "nothing" for i in (0, third, 2 * third)]
        return [
            Variant(f"{next(self._numbers)} {parts[0]}", parts[1], parts[2], str(finish_reason))
            for _ in range(self._variants_per_answer)
        ]


def make_fixed_captioner(config: CaptionConfig, model: ModelIdentity, prompt: Prompt) -> Captioner:
    """Make a captioner whose answers have a fixed length. See `factory.CaptionerFactory`."""
    per_answer = config.num_variants if config.variants_by == "one_request" else 1

    return SupervisedCaptioner(
        config,
        lambda processes: FixedLengthEngine(config, model, prompt, processes),
        AcceptAnything(per_answer),
    )
