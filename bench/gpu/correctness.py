"""Compare the answers of the engine with the answers of transformers on the CPU.

The comparison uses the demonstration checkpoint in float32 with greedy decoding. The reference
model gets the answer of the engine. For each position in the answer, the reference model predicts
the token from all tokens before this position. The two models differ if the predicted token is not
the token in the answer. At the first difference, both tokens must have almost the same probability.
Then the difference is only a rounding error.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from bench.gpu.cases import Scale
from bench.gpu.engines import OfflineEngine
from skytext.config.settings import Config
from skytext.models.checkpoints import DEMO_CHECKPOINT

MAX_NATS = 0.05
_NUM_TOKENS = 160


@dataclass(frozen=True)
class Difference:
    """The first difference between an answer of the engine and the reference model.

    Attributes:
        position: position of the token in the answer, from 0.
        nats: at this position, the log probability of the token from the reference model minus the
            log probability of the token in the answer.
    """

    position: int
    nats: float


def run_correctness(config: Config, scale: Scale, images: Sequence[Image.Image]) -> dict[str, Any]:
    """Compare the answers of the engine with the reference model.

    Raises:
        RuntimeError: the prompts differ, or the ``nats`` of a `Difference` are `MAX_NATS` or more.
    """
    started = time.monotonic()
    engine = OfflineEngine(config)
    outputs = engine.generate(images, temperature=0.0, max_tokens=_NUM_TOKENS)
    reference = Reference()
    found = [
        reference.first_difference(
            engine.prompt, image, output.prompt_token_ids, output.outputs[0].token_ids
        )
        for image, output in zip(images, outputs, strict=True)
    ]
    differences = [difference for difference in found if difference is not None]
    worst = max((difference.nats for difference in differences), default=0.0)
    if worst >= MAX_NATS:
        raise RuntimeError(
            f"an answer differs from the reference by {worst:.3f} nats (the limit is {MAX_NATS}): "
            f"{differences}"
        )
    counts = {
        "num_images": len(found),
        "num_tokens": sum(len(output.outputs[0].token_ids) for output in outputs),
        "num_equal": len(found) - len(differences),
        "largest_difference_nats": round(worst, 5),
    }
    return {"start_s": 0.0, "loads": {"answers": counts | {"span_s": _since(started)}}}


class Reference:
    """The demonstration checkpoint in transformers, in float32 on the CPU."""

    def __init__(self) -> None:
        import torch
        from transformers import AutoProcessor, LlavaForConditionalGeneration

        self._processor: Any = AutoProcessor.from_pretrained(DEMO_CHECKPOINT)
        self._model: Any = LlavaForConditionalGeneration.from_pretrained(
            DEMO_CHECKPOINT, dtype=torch.float32
        ).eval()

    def first_difference(
        self,
        prompt: str,
        image: Image.Image,
        prompt_ids: Sequence[int],
        answer_ids: Sequence[int],
    ) -> Difference | None:
        """Return the first difference between an answer and the reference model, or None.

        Args:
            prompt: the prompt of the engine.
            image: the RGB image.
            prompt_ids: the token ids of the prompt in the engine. Each image patch has one token.
            answer_ids: the token ids in the answer of the engine.

        Raises:
            RuntimeError: the engine and the reference model have different token ids for the
                prompt.
        """
        import torch

        inputs = self._processor(images=image, text=prompt, return_tensors="pt")
        ids = inputs["input_ids"][0].tolist()
        if ids != list(prompt_ids):
            raise RuntimeError(
                f"the prompt of the engine is {list(prompt_ids)}, but the prompt of the "
                f"reference model is {ids}"
            )
        whole = torch.tensor([[*ids, *answer_ids]])
        with torch.inference_mode():
            logits = self._model(
                input_ids=whole,
                attention_mask=torch.ones_like(whole),
                pixel_values=inputs["pixel_values"],
            ).logits[0, len(ids) - 1 : -1]
        log_probabilities = torch.log_softmax(logits.float(), dim=-1)
        best, chosen = log_probabilities.max(dim=-1).values, torch.tensor(list(answer_ids))
        behind = best - log_probabilities[torch.arange(len(chosen)), chosen]
        wrong = torch.nonzero(log_probabilities.argmax(dim=-1) != chosen).flatten()
        if len(wrong) == 0:
            return None
        position = int(wrong[0])
        return Difference(position, float(behind[position]))


def _since(started: float) -> float:
    return round(time.monotonic() - started, 1)
