"""Settings of captioning: the model, the prompt, sampling, and the engines."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from skytext.config.section import Fraction, PositiveFloat, PositiveInt, Section

DEMO_MODEL = "demo"
"""Name of the packaged demonstration checkpoint."""


FAKE_MODEL_PREFIX = "fake"
"""Models named ``fake`` or ``fake:OPTION=VALUE,…`` are the packaged fakes, for tests."""


class EngineConfig(Section):
    """The pool of vLLM engines."""

    num_engines: PositiveInt = Field(
        1, description="Number of engines at the start of a run. Each engine is one actor."
    )
    max_engines: PositiveInt | None = Field(
        None,
        description="Greatest number of engines. The pool grows when the cluster has room. It "
        "shrinks only when nodes are lost and when the input ends. null: "
        "`num_engines`.",
    )
    num_gpus_per_engine: float | None = Field(
        None,
        ge=0,
        description="GPUs that an engine requests from Ray. null: tensor_parallel_size if the "
        "cluster has GPUs, can add some, or vLLM is not the CPU build; else 0.",
    )
    num_cpus_per_engine: PositiveFloat = Field(
        1.0,
        description="CPUs that an engine requests from Ray; on a CPU build, the number of cores "
        "that it uses.",
    )
    tensor_parallel_size: PositiveInt = Field(
        1, description="GPUs that share one copy of the model."
    )
    dtype: str = Field(
        "auto",
        description="Precision of weights and cache, by vLLM's name. auto: on a GPU the "
        "precision of the checkpoint; on a CPU bfloat16 if the processor supports "
        "it natively, else float32, which needs twice the memory.",
    )
    max_model_len: PositiveInt | None = Field(
        None,
        description="Greatest length of prompt and answer, in tokens; null: the length of the "
        "checkpoint.",
    )
    max_num_seqs: PositiveInt = Field(
        256,
        description="Answers generated at once. The default is vLLM's for GPUs with less than "
        "70 GiB; it also works on larger ones, where vLLM's default is 1024. Not "
        "measured on a GPU yet: `python -m bench.gpu --only batch` does.",
    )
    max_num_batched_tokens: PositiveInt | None = Field(
        None,
        description="Tokens of prompts and answers in one step, and of images in one batch of "
        "the vision tower. null: vLLM's default for offline work, 8192 or (from 70 "
        "GiB on) 16384 on a GPU. Not measured on a GPU yet: `python -m bench.gpu "
        "--only batch,vision` does.",
    )
    gpu_memory_utilization: Fraction = Field(
        0.92,
        description="Share of a GPU's memory that the engine uses for weights, work and cache: "
        "vLLM's default. Lower it if an embedder shares the GPU.",
    )
    cpu_kv_cache_gib: PositiveInt = Field(
        1,
        description="KV cache of a CPU engine, in GiB. vLLM's own default uses half of the memory.",
    )
    cpu_cores: str | None = Field(
        None,
        description="Cores of a CPU engine, e.g. '0-3' (VLLM_CPU_OMP_THREADS_BIND); null: auto.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Further fields of vLLM's AsyncEngineArgs, passed on unchanged: "
        "`quantization: fp8_per_tensor`, `kv_cache_dtype: fp8`, `enforce_eager: "
        "true`, …; other fields keep vLLM's defaults.",
    )
    start_timeout_s: PositiveFloat = Field(
        900.0,
        description="An engine that has not started after this time is stopped, and the job "
        "reports it.",
    )
    hang_timeout_s: PositiveFloat = Field(
        300.0,
        description="An engine with images in work that produces no token for this long is "
        "stopped and started again. Compiling kernels at first use takes minutes, "
        "and so does a long prompt on a slow processor.",
    )
    max_restarts: int = Field(
        20,
        ge=0,
        description="The job ends after this many restarts in a row without a described image. "
        "Finding one image that ends the engine takes about log2 of the images in "
        "work (7 for a hundred), and one or two more for each further such image.",
    )

    @property
    def engine_limit(self) -> int:
        """Maximum number of engines of a run."""
        return max(self.num_engines, self.max_engines or 0)

    @model_validator(mode="after")
    def _check_pool(self) -> Self:
        if self.max_engines is not None and self.max_engines < self.num_engines:
            raise ValueError(
                f"max_engines ({self.max_engines}) must not be below num_engines "
                f"({self.num_engines})"
            )
        return self


class CaptionConfig(Section):
    """How images are described. Settings that change an answer are in the caption fingerprint."""

    model: str = Field(
        DEMO_MODEL,
        min_length=1,
        description="Hub name or local folder of a model that vLLM supports, e.g. "
        "llava-hf/llava-1.5-7b-hf; 'demo': the small demonstration checkpoint.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a hub model.")
    prompt: str | None = Field(
        None,
        description="The id of a packaged prompt, or a file; null: the prompt that fits the model.",
    )
    chat_template: str | None = Field(
        None, description="A Jinja file, for checkpoints without a chat template."
    )
    num_variants: int = Field(
        5, ge=1, le=32, description="Descriptions for each image; 5 as in RSRT."
    )
    variants_by: Literal["samples", "one_request"] = Field(
        "samples",
        description="samples: n samples of one request; one_request: one answer with all variants.",
    )
    temperature: float = Field(
        0.7, ge=0, le=2, description="Sampling temperature. At 0 all variants would be equal."
    )
    top_p: Fraction = Field(
        0.95,
        description="Nucleus sampling: excludes the unlikely tokens that high temperatures allow.",
    )
    max_tokens: PositiveInt = Field(
        512,
        description="Greatest length of one variant. Those of RSRT have about 130 tokens, so "
        "only endless answers are cut.",
    )
    max_attempts: int = Field(
        3,
        ge=1,
        le=10,
        description="Greatest number of requests for an image. Empty, repeated or cut answers "
        "are requested again, each time at a higher temperature.",
    )
    structured_output: bool = Field(
        True,
        description="Constrain the form of the answer by a token mask; switch it off only to "
        "measure its cost.",
    )
    seed: int | None = Field(
        None,
        description="Derive the seed of every request from this number and the image; slower, "
        "for comparisons.",
    )
    engine: EngineConfig = EngineConfig()

    @model_validator(mode="after")
    def _samples_need_variety(self) -> Self:
        if self.temperature == 0 and self.variants_by == "samples" and self.num_variants > 1:
            raise ValueError(
                "temperature 0 makes all samples equal: set num_variants to 1, variants_by to "
                "one_request, or a temperature above 0"
            )
        return self
