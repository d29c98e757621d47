"""Settings of captioning: the model, the prompt, sampling, and the engines."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from skytext.config.section import Fraction, PositiveFloat, PositiveInt, Section

DEMO_MODEL = "demo"
"""Names the demonstration checkpoint that comes with the package."""


FAKE_MODEL_PREFIX = "fake"
"""Models named ``fake`` or ``fake:OPTION=VALUE,…`` are the package's fakes, for tests."""


class EngineConfig(Section):
    """The pool of vLLM engines."""

    num_engines: PositiveInt = Field(
        1, description="Engines that a run starts with. Each is one actor."
    )
    max_engines: PositiveInt | None = Field(
        None,
        description="Engines at the most: the pool grows where the cluster has room, and shrinks "
        "only with lost nodes and when the input ends; null: `num_engines`.",
    )
    num_gpus_per_engine: float | None = Field(
        None,
        ge=0,
        description="GPUs an engine asks Ray for; null: tensor_parallel_size where the cluster has "
        "GPUs, may add some, or vLLM is not the build for CPUs; else 0.",
    )
    num_cpus_per_engine: PositiveFloat = Field(
        1.0,
        description="CPUs an engine asks Ray for; on a CPU build: the cores that it computes on.",
    )
    tensor_parallel_size: PositiveInt = Field(1, description="GPUs that share one copy.")
    dtype: str = Field(
        "auto",
        description="Precision of weights and cache, as vLLM names it. auto: on a GPU the "
        "checkpoint's own; on a CPU bfloat16 where the processor multiplies it natively, else "
        "float32, which needs twice the memory.",
    )
    max_model_len: PositiveInt | None = Field(
        None, description="Longest prompt and answer, in tokens; null: what the checkpoint says."
    )
    max_num_seqs: PositiveInt = Field(
        256,
        description="Answers generated at once; vLLM's own on GPUs of less than 70 GiB, which runs "
        "on the larger ones, too (vLLM takes 1024 there). Not measured on a GPU yet: "
        "`python -m bench.gpu --only batch` does.",
    )
    max_num_batched_tokens: PositiveInt | None = Field(
        None,
        description="Tokens of prompts and answers in a step, and of images that the vision tower "
        "takes at once; null: vLLM's own for work off line, 8192 or (from 70 GiB on) 16384 on a "
        "GPU. Not measured on a GPU yet: `python -m bench.gpu --only batch --only vision` does.",
    )
    gpu_memory_utilization: Fraction = Field(
        0.92,
        description="Share of a GPU's memory that the engine takes for weights, work and cache: "
        "vLLM's own. Lower it where an embedder shares the GPU.",
    )
    cpu_kv_cache_gib: PositiveInt = Field(
        1, description="KV cache of a CPU engine: vLLM's own guess takes half of the memory."
    )
    cpu_cores: str | None = Field(
        None,
        description="Cores of a CPU engine, e.g. '0-3' (VLLM_CPU_OMP_THREADS_BIND); null: auto.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Further fields of vLLM's AsyncEngineArgs, as they are: "
        "`quantization: fp8_per_tensor`, `kv_cache_dtype: fp8`, `enforce_eager: true`, …; what is "
        "not named stays vLLM's own.",
    )
    start_timeout_s: PositiveFloat = Field(
        900.0, description="An engine that is not up by then is ended, and the job says so."
    )
    hang_timeout_s: PositiveFloat = Field(
        300.0,
        description="An engine that gives no token for this long, with images in work, is ended "
        "and started again. Kernels compiled on first use take minutes, and a slow processor takes "
        "them for a long prompt.",
    )
    max_restarts: int = Field(
        20,
        ge=0,
        description="Restarts in a row without one image described: the job ends. To find an image "
        "that ends the engine, halving takes one restart for each doubling of the images in work, "
        "7 for a hundred, and one or two for each further such image.",
    )

    @property
    def engine_limit(self) -> int:
        """The most engines that a run may have."""
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
    """How images are described. What decides an answer goes into the caption fingerprint."""

    model: str = Field(
        DEMO_MODEL,
        min_length=1,
        description="A hub name or local folder that vLLM serves, e.g. llava-hf/llava-1.5-7b-hf; "
        "'demo': the small demonstration checkpoint.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a hub model.")
    prompt: str | None = Field(
        None, description="A packaged prompt's id or a file; null: the one that fits the model."
    )
    chat_template: str | None = Field(
        None, description="A Jinja file, for checkpoints that carry no chat template."
    )
    num_variants: int = Field(5, ge=1, le=32, description="Descriptions an image, as in RSRT.")
    variants_by: Literal["samples", "one_request"] = Field(
        "samples",
        description="samples: n samples of one request; one_request: one answer that holds all.",
    )
    temperature: float = Field(0.7, ge=0, le=2, description="Variants need variety.")
    top_p: Fraction = Field(0.95, description="Cuts the tail that high temperatures reach.")
    max_tokens: PositiveInt = Field(
        512, description="Tokens of one variant; RSRT's take about 130, so only a runaway is cut."
    )
    max_attempts: int = Field(
        3,
        ge=1,
        le=10,
        description="Requests an image at the most: what was empty, repeated or cut off is asked "
        "again, a little warmer each time.",
    )
    structured_output: bool = Field(
        True,
        description="Hold the answer to its form by a token mask; off only to measure its cost.",
    )
    seed: int | None = Field(
        None, description="Seed every request from this and the image; slower, for comparisons."
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
