"""The sections and their cases. Each case runs in one process, and starts at most one engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["bare", "offline", "job", "embed", "correctness", "test"]
LLAVA, NEXT, DEMO = "llava-1.5-7b", "llava-next-7b", "demo"
LIMIT_S = 480.0
"""Time limit of a section in seconds.

If a section hangs, it is ended at the limit, so that it wastes no paid time.
"""


@dataclass(frozen=True)
class Load:
    """Requests that an engine receives at the same time.

    Attributes:
        name: name of the row in the table.
        share: share of the images in the `Scale` that the load uses. Slow loads use fewer images.
        size_px: width and height of the images. None for the size in the `Scale`.
        num_tokens: number of tokens of an answer. None for the number in the `Scale`.
        variants_by: the value of the setting ``caption.variants_by``.
        structured: true if a token mask enforces the format of answers.
    """

    name: str
    share: float = 1.0
    size_px: tuple[int, int] | None = None
    num_tokens: int | None = None
    variants_by: Literal["samples", "one_request"] = "samples"
    structured: bool = False


@dataclass(frozen=True)
class Case:
    """One measurement, which runs in one process.

    Attributes:
        name: name of the case in its section.
        kind: what the case runs. ``bare`` runs skytext's engine alone. ``offline`` runs vLLM's
            ``LLM`` alone. ``job`` runs the complete job, from reading to commit. ``embed`` runs the
            embedder alone. ``correctness`` compares the answers of the engine with the answers of
            transformers. ``test`` runs a test of the project.
        model: a name in `bench.gpu.shapes.SHAPES`, or the demonstration checkpoint.
        settings: values of settings, by the dotted names of the settings.
        loads: the loads, in the order in which the case runs them.
        needs_gpu: true if the case runs only on a GPU.
        test: pytest's node id of the test, if the kind is ``test``.
    """

    name: str
    kind: Kind = "bare"
    model: str = LLAVA
    settings: Mapping[str, Any] = field(default_factory=dict)
    loads: tuple[Load, ...] = (Load("5 samples"),)
    needs_gpu: bool = False
    test: str = ""


def _options(**options: Any) -> dict[str, Any]:
    return {"caption.engine.options": options}


_VISION = {"caption.engine.max_num_batched_tokens": 16384}
_HALF = (Load("5 samples", share=0.5),)
_ON_THE_GPU = {
    "embed.num_gpus_per_actor": 0.1,
    "caption.engine.num_gpus_per_engine": 0.9,
    "caption.engine.gpu_memory_utilization": 0.85,
}

SECTIONS: dict[str, tuple[Case, ...]] = {
    # The job is compared with the best bare engine. In sections without a job, all rows are
    # compared with the first row.
    "job": (
        Case("bare engine"),
        Case("bare engine, 512 answers", settings={"caption.engine.max_num_seqs": 512}),
        Case(
            "bare engine, 1024 answers, 16384 tokens",
            settings={
                "caption.engine.max_num_seqs": 1024,
                "caption.engine.max_num_batched_tokens": 16384,
            },
        ),
        Case("whole job", "job"),
    ),
    "job-next": (Case("bare engine", model=NEXT), Case("whole job", "job", model=NEXT)),
    "offline": (Case("bare engine"), Case("vllm.LLM", "offline")),
    "variants": (
        Case(
            "prefix caching",
            loads=(Load("5 samples"), Load("one request for all", variants_by="one_request")),
        ),
        Case("no prefix caching", settings=_options(enable_prefix_caching=False)),
    ),
    "structured": (
        Case(
            "token mask",
            loads=(Load("off", share=0.5), Load("on", share=0.5, structured=True)),
        ),
    ),
    "image-size": (
        Case(
            "LLaVA-1.5",
            loads=tuple(
                Load(f"{side} px", share=0.5, size_px=(side, side)) for side in (336, 224, 1024)
            ),
        ),
        Case(
            "LLaVA-NeXT",
            model=NEXT,
            loads=(
                Load("336 px, two tiles", share=0.5, size_px=(336, 336)),
                Load("672 px, four tiles", share=0.5, size_px=(672, 672)),
                Load("1008 × 336 px, three tiles", share=0.5, size_px=(1008, 336)),
            ),
        ),
    ),
    "batch": (
        Case("256 answers", loads=_HALF),
        Case("128 answers", settings={"caption.engine.max_num_seqs": 128}, loads=_HALF),
        Case("512 answers", settings={"caption.engine.max_num_seqs": 512}, loads=_HALF),
        Case("1024 answers", settings={"caption.engine.max_num_seqs": 1024}, loads=_HALF),
        Case("2048 tokens", settings={"caption.engine.max_num_batched_tokens": 2048}, loads=_HALF),
    ),
    "graphs": (
        Case("CUDA graphs", loads=_HALF, needs_gpu=True),
        Case("no graphs", settings=_options(enforce_eager=True), loads=_HALF),
    ),
    "fp8": (
        Case("bfloat16", loads=_HALF),
        Case(
            "weights", settings=_options(quantization="fp8_per_tensor"), loads=_HALF, needs_gpu=True
        ),
        Case("KV cache", settings=_options(kv_cache_dtype="fp8"), loads=_HALF, needs_gpu=True),
        Case(
            "both",
            settings=_options(quantization="fp8_per_tensor", kv_cache_dtype="fp8"),
            loads=_HALF,
            needs_gpu=True,
        ),
    ),
    # Each answer has one token, so almost all time is spent in the vision tower and the prompt.
    "vision": (
        *(
            Case(
                f"{tokens} tokens a step",
                settings={"caption.engine.max_num_batched_tokens": tokens},
                loads=(Load("1 token", num_tokens=1),),
            )
            for tokens in (16384, 2048, 8192, 32768)
        ),
        Case(
            "vision tower in CUDA graphs",
            settings=_VISION | _options(compilation_config={"cudagraph_mm_encoder": True}),
            loads=(Load("1 token", num_tokens=1),),
            needs_gpu=True,
        ),
        Case(
            "vision tower compiled",
            settings=_VISION | _options(compilation_config={"compile_mm_encoder": True}),
            loads=(Load("1 token", num_tokens=1),),
            needs_gpu=True,
        ),
    ),
    "embedding": (
        Case("embedder alone, CPU", "embed"),
        Case("embedder alone, GPU", "embed", needs_gpu=True),
        Case("job, embedder on the CPU", "job", loads=_HALF),
        Case(
            "job, embedder on the GPU beside it",
            "job",
            settings=_ON_THE_GPU,
            loads=_HALF,
            needs_gpu=True,
        ),
    ),
    "correctness": (Case("float32, greedy", "correctness", model=DEMO),),
    "kill": (
        Case(
            "the engine's core is killed",
            "test",
            test="tests/models/vllm/test_engine.py::"
            "test_a_killed_core_is_replaced_and_every_image_described",
        ),
    ),
    # This test runs the command `skytext caption` with a Ray that uses the GPU.
    "command": (
        Case(
            "any process of the command is killed",
            "test",
            test="tests/proof/test_kill_matrix.py::test_kills_of_any_process_lose_nothing_with_real_models",
        ),
    ),
}


@dataclass(frozen=True)
class Scale:
    """The size of a measurement.

    Attributes:
        num_images: number of images in a load with share 1.
        side_px: side length of an image in pixels.
        num_tokens: number of tokens of an answer.
        settings: values of settings for all cases.
        models: replacements for models. The key is the name of the model in a case, and the value
            is the name of the model that is used instead.
        num_texts: number of texts in a case of the kind ``embed``.
    """

    num_images: int
    side_px: int
    num_tokens: int
    settings: Mapping[str, Any]
    models: Mapping[str, str]
    num_texts: int


# In the RSRT dataset, an image has 5 descriptions of 130 tokens (arXiv 2512.10596).
FULL = Scale(
    num_images=512,
    side_px=336,
    num_tokens=130,
    settings={"embed.num_cpus_per_actor": 4},
    models={},
    num_texts=20_000,
)
SMALL = Scale(
    num_images=6,
    side_px=112,
    num_tokens=8,
    settings={"caption.engine.max_num_seqs": 32},
    models={LLAVA: DEMO, NEXT: "llava-next-tiny"},
    num_texts=20,
)
