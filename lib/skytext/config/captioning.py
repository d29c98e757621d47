"""Settings for captioning: the model, the prompt, sampling, and the engines."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from skytext.config.section import Fraction, PositiveFloat, PositiveInt, Section

DEMO_MODEL = "demo"
"""Name of the packaged demonstration checkpoint."""


FAKE_MODEL_PREFIX = "fake"
"""A model name ``fake`` or ``fake:OPTION=VALUE,…`` selects a packaged fake model for tests."""


class EngineConfig(Section):
    """The pool of vLLM engines."""

    num_engines: PositiveInt = Field(
        1, description="Number of engines when a run starts. Each engine is one Ray actor."
    )
    max_engines: PositiveInt | None = Field(
        None,
        description="Maximum number of engines. More engines are started when the cluster has "
        "free resources. The number of engines decreases only if nodes are lost, "
        "or if there are no more images to describe. null: the value of "
        "`num_engines`.",
    )
    num_gpus_per_engine: float | None = Field(
        None,
        ge=0,
        description="Number of GPUs that an engine requests from Ray. null: an engine requests "
        "`tensor_parallel_size` GPUs. There is one exception: if the installed vLLM "
        "is the CPU build and no node of the cluster can have a GPU, an engine "
        "requests no GPUs.",
    )
    num_cpus_per_engine: PositiveFloat = Field(
        1.0,
        description="Number of CPUs that an engine requests from Ray. With the CPU build of "
        "vLLM, an engine uses this number of cores.",
    )
    tensor_parallel_size: PositiveInt = Field(
        1, description="Number of GPUs that share one copy of the model."
    )
    dtype: str = Field(
        "auto",
        description="Precision of the weights and of the cache, as a name that vLLM accepts. "
        "`auto`: a GPU uses the precision of the checkpoint. A CPU uses bfloat16 if "
        "it supports bfloat16 natively. Other CPUs use float32, which needs twice as "
        "much memory.",
    )
    max_model_len: PositiveInt | None = Field(
        None,
        description="Maximum number of tokens of a prompt and its answer together. null: the "
        "maximum that the checkpoint supports.",
    )
    max_num_seqs: PositiveInt = Field(
        256,
        description="Maximum number of answers that an engine generates at the same time. The "
        "default is the value that vLLM uses for GPUs with less than 70 GiB of "
        "memory. For larger GPUs, vLLM uses 1024, but the default also works on these "
        "GPUs. The effect of this setting on a GPU is not measured yet. The command "
        "`python -m bench.gpu --only batch` measures it.",
    )
    max_num_batched_tokens: PositiveInt | None = Field(
        None,
        description="Maximum number of tokens that the engine processes in one step. Tokens of "
        "prompts and tokens of answers are counted together. The setting also limits "
        "the number of image tokens in one batch of the vision encoder. null: vLLM's "
        "default for offline work. On a GPU, this default is 8192 tokens, or 16384 "
        "tokens if the GPU has at least 70 GiB of memory. The effect of this setting "
        "on a GPU is not measured yet. The command `python -m bench.gpu --only "
        "batch,vision` measures it.",
    )
    gpu_memory_utilization: Fraction = Field(
        0.92,
        description="Share of the GPU's memory that the engine uses for weights, computation and "
        "cache. The default of vLLM is the same. Choose a lower value if an embedding "
        "model uses the same GPU.",
    )
    cpu_kv_cache_gib: PositiveInt = Field(
        1,
        description="Size of the KV cache of a CPU engine, in GiB. Without this setting, vLLM "
        "would use half of the machine's memory for the cache.",
    )
    cpu_cores: str | None = Field(
        None,
        description="CPU cores that a CPU engine uses, for example '0-3'. vLLM receives the "
        "value in the environment variable VLLM_CPU_OMP_THREADS_BIND. null: vLLM "
        "chooses the cores.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="More options for vLLM. Each option is a field of vLLM's class "
        "AsyncEngineArgs, and vLLM receives its value unchanged. Examples: "
        "`quantization: fp8_per_tensor`, `kv_cache_dtype: fp8`, `enforce_eager: "
        "true`. Fields that are not listed have vLLM's defaults.",
    )
    start_timeout_s: PositiveFloat = Field(
        900.0,
        description="Maximum time for the start of an engine. An engine that needs more time "
        "is stopped, and the job reports an error.",
    )
    hang_timeout_s: PositiveFloat = Field(
        300.0,
        description="Maximum time for which an engine may process images without producing a "
        "token. After this time, the engine is stopped and started again. Do not "
        "choose a short time. For example, an engine can need minutes without a token "
        "to compile a kernel, or to process a long prompt on a slow CPU.",
    )
    max_restarts: int = Field(
        20,
        ge=0,
        description="Maximum number of consecutive engine restarts. The count starts again at "
        "zero when an image is described. If more restarts are needed, the job ends. "
        "Restarts are needed to find an image that crashes the engine. If the engine "
        "processes N images at the same time, about log2(N) restarts are needed, for "
        "example 7 restarts for 100 images. Each additional image that crashes the "
        "engine needs one or two more restarts.",
    )

    @property
    def engine_limit(self) -> int:
        """The maximum number of engines of a run."""
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
    """Settings for the descriptions of images.

    The caption fingerprint includes all settings that change an answer.
    """

    model: str = Field(
        DEMO_MODEL,
        min_length=1,
        description="Hugging Face name or local folder of a model that vLLM supports, for example "
        "`llava-hf/llava-1.5-7b-hf`. `demo` is the small demonstration checkpoint.",
    )
    revision: str | None = Field(
        None, description="Branch, tag or commit of a model from Hugging Face."
    )
    prompt: str | None = Field(
        None,
        description="Id of a packaged prompt, or path of a prompt file. null: the packaged prompt "
        "for the model.",
    )
    chat_template: str | None = Field(
        None,
        description="Path of a Jinja file that contains the chat template. Set this path if the "
        "checkpoint contains no chat template.",
    )
    num_variants: int = Field(
        5,
        ge=1,
        le=32,
        description="Number of descriptions for each image. The default is the number of "
        "descriptions for each image in the RSRT dataset.",
    )
    variants_by: Literal["samples", "one_request"] = Field(
        "samples",
        description="`samples`: the engine generates one answer for each variant. `one_request`: "
        "the engine generates one answer with all variants.",
    )
    temperature: float = Field(
        0.7,
        ge=0,
        le=2,
        description="Sampling temperature. With temperature 0, all variants would be equal.",
    )
    top_p: Fraction = Field(
        0.95,
        description="Probability limit for nucleus sampling. Without this limit, a high "
        "temperature could choose very unlikely tokens.",
    )
    max_tokens: PositiveInt = Field(
        512,
        description="Maximum length of one variant, in tokens. A longer variant is truncated. The "
        "variants in the RSRT dataset have about 130 tokens. Therefore the default "
        "usually truncates only answers in which the model does not stop.",
    )
    max_attempts: int = Field(
        3,
        ge=1,
        le=10,
        description="Maximum number of requests for an image. A new request is sent if an answer "
        "is empty or truncated, or if it repeats another answer. The new request has "
        "a higher temperature.",
    )
    structured_output: bool = Field(
        True,
        description="Whether a token mask forces the engine to write answers in the required "
        "format. Use `false` only to measure how much the mask slows down the "
        "engine.",
    )
    seed: int | None = Field(
        None,
        description="Base number for the seeds of the engine. The seed of each request is derived "
        "from this number and from the image. Set this number if you want to compare "
        "runs. If this number is set, captioning is slower.",
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
