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
        1, description="Number of engines at the start of a run. Each is one actor."
    )
    max_engines: PositiveInt | None = Field(
        None,
        description="Maximum number of engines. The pool grows if the cluster has room. It shrinks "
        "only with lost nodes and at the end of the input. null: `num_engines`.",
    )
    num_gpus_per_engine: float | None = Field(
        None,
        ge=0,
        description="GPUs per engine, requested from Ray. null: tensor_parallel_size if the "
        "cluster has GPUs or may add some, or if vLLM is not the CPU build; otherwise 0.",
    )
    num_cpus_per_engine: PositiveFloat = Field(
        1.0,
        description="CPUs per engine, requested from Ray. On a CPU build: the computing cores.",
    )
    tensor_parallel_size: PositiveInt = Field(1, description="GPUs per copy of the model.")
    dtype: str = Field(
        "auto",
        description="Precision of weights and cache, as in vLLM. auto: on a GPU the checkpoint's "
        "own; on a CPU bfloat16 if the processor supports it natively, otherwise float32, which "
        "needs twice the memory.",
    )
    max_model_len: PositiveInt | None = Field(
        None, description="Maximum tokens of prompt plus answer; null: from the checkpoint."
    )
    max_num_seqs: PositiveInt = Field(
        256,
        description="Answers generated at once. The default is vLLM's own for GPUs below 70 GiB "
        "(for larger ones vLLM uses 1024). Not measured on a GPU yet: "
        "`python -m bench.gpu --only batch` measures it.",
    )
    max_num_batched_tokens: PositiveInt | None = Field(
        None,
        description="Tokens per step, including image tokens. null: vLLM's own value for offline "
        "work, 8192 or (from 70 GiB on) 16384 on a GPU. Not measured on a GPU yet: "
        "`python -m bench.gpu --only batch --only vision` measures it.",
    )
    gpu_memory_utilization: Fraction = Field(
        0.92,
        description="Part of a GPU's memory for weights, computation and cache; vLLM's default. "
        "Lower it if an embedder shares the GPU.",
    )
    cpu_kv_cache_gib: PositiveInt = Field(
        1, description="KV cache of a CPU engine. vLLM's own default uses half of the memory."
    )
    cpu_cores: str | None = Field(
        None,
        description="Cores of a CPU engine, e.g. '0-3' (VLLM_CPU_OMP_THREADS_BIND); null: auto.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Further fields of vLLM's AsyncEngineArgs, such as "
        "`quantization: fp8_per_tensor`, `kv_cache_dtype: fp8`, `enforce_eager: true`. Other "
        "fields keep vLLM's defaults.",
    )
    start_timeout_s: PositiveFloat = Field(
        900.0, description="Maximum time for an engine's start. After that the job fails."
    )
    hang_timeout_s: PositiveFloat = Field(
        300.0,
        description="An engine with images in work and without any new token for this long is "
        "replaced. Kernels compiled on first use take minutes, and so does a long prompt on a slow "
        "processor.",
    )
    max_restarts: int = Field(
        20,
        ge=0,
        description="The job ends after this many restarts in a row without a described image. To "
        "find the one image that crashes the engine takes one restart per halving of the images in "
        "work, 7 for a hundred, and one or two for each further such image.",
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
        None, description="Id of a packaged prompt, or a file; null: the prompt for the model."
    )
    chat_template: str | None = Field(
        None, description="A Jinja file, for checkpoints without a chat template."
    )
    num_variants: int = Field(5, ge=1, le=32, description="Descriptions per image, as in RSRT.")
    variants_by: Literal["samples", "one_request"] = Field(
        "samples",
        description="samples: n samples of one request; one_request: one answer with all variants.",
    )
    temperature: float = Field(0.7, ge=0, le=2, description="Variants must differ.")
    top_p: Fraction = Field(0.95, description="Excludes unlikely tokens at high temperatures.")
    max_tokens: PositiveInt = Field(
        512, description="Maximum tokens of one variant. RSRT's have about 130."
    )
    max_attempts: int = Field(
        3,
        ge=1,
        le=10,
        description="Maximum requests per image. Empty, repeated or truncated answers are "
        "requested again, each time with a higher temperature.",
    )
    structured_output: bool = Field(
        True,
        description="Enforce the form of the answer by a token mask; off only to measure its cost.",
    )
    seed: int | None = Field(
        None, description="Seed of every request, with the image; slower, for comparisons."
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
