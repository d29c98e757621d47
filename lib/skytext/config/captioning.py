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
        description="Maximum number of engines. The pool grows when the cluster has free "
        "resources. The pool shrinks only when nodes are lost or when no input is left. null: "
        "`num_engines`.",
    )
    num_gpus_per_engine: float | None = Field(
        None,
        ge=0,
        description="Number of GPUs that an engine requests from Ray. null: `tensor_parallel_size` "
        "if the cluster has GPUs, if the cluster can add GPUs, or if the installed vLLM is not the "
        "CPU build. Otherwise 0.",
    )
    num_cpus_per_engine: PositiveFloat = Field(
        1.0,
        description="Number of CPUs that an engine requests from Ray. With the CPU build of vLLM, "
        "this is the number of cores that the engine uses.",
    )
    tensor_parallel_size: PositiveInt = Field(
        1, description="Number of GPUs that share one copy of the model."
    )
    dtype: str = Field(
        "auto",
        description="Precision of the weights and the cache, by vLLM's name. `auto`: on a GPU, the "
        "precision of the checkpoint. On a CPU, bfloat16 if the processor supports it natively. "
        "Otherwise float32, which needs twice the memory.",
    )
    max_model_len: PositiveInt | None = Field(
        None,
        description="Maximum length of a prompt with its answer, in tokens. null: the maximum "
        "length of the checkpoint.",
    )
    max_num_seqs: PositiveInt = Field(
        256,
        description="Maximum number of answers that an engine generates at the same time. The "
        "default is vLLM's default for GPUs with less than 70 GiB. It also works on larger GPUs, "
        "where vLLM's default is 1024. The effect on a GPU is not measured yet. The command "
        "`python -m bench.gpu --only batch` measures it.",
    )
    max_num_batched_tokens: PositiveInt | None = Field(
        None,
        description="Maximum number of tokens of prompts and answers in one step of the engine. It "
        "is also the maximum number of image tokens in one batch of the vision encoder. null: "
        "vLLM's default for offline work. On a GPU this is 8192 tokens, or 16384 if the GPU has at "
        "least 70 GiB. The effect on a GPU is not measured yet. The command `python -m bench.gpu "
        "--only batch,vision` measures it.",
    )
    gpu_memory_utilization: Fraction = Field(
        0.92,
        description="Share of the GPU's memory that the engine uses for weights, computation and "
        "cache. The default is vLLM's default. Choose a lower value if an embedding model uses the "
        "same GPU.",
    )
    cpu_kv_cache_gib: PositiveInt = Field(
        1,
        description="Size of the KV cache of a CPU engine, in GiB. vLLM's own default uses half of "
        "the memory.",
    )
    cpu_cores: str | None = Field(
        None,
        description="Cores that a CPU engine uses, for example '0-3'. The value is passed on as "
        "VLLM_CPU_OMP_THREADS_BIND. null: vLLM chooses the cores.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="More fields of vLLM's AsyncEngineArgs, which are passed on unchanged. "
        "Examples: `quantization: fp8_per_tensor`, `kv_cache_dtype: fp8`, `enforce_eager: true`. "
        "All other fields keep vLLM's defaults.",
    )
    start_timeout_s: PositiveFloat = Field(
        900.0,
        description="Maximum time for the start of an engine. If the engine has not started after "
        "this time, it is stopped, and the job reports an error.",
    )
    hang_timeout_s: PositiveFloat = Field(
        300.0,
        description="If an engine processes images but produces no token for this time, it is "
        "stopped and started again. Do not choose a short time: compiling kernels at their first "
        "use can take minutes, and so can a long prompt on a slow processor.",
    )
    max_restarts: int = Field(
        20,
        ge=0,
        description="Maximum number of engine restarts in a row without a described image. After "
        "more restarts the job ends. If an image ends the engine, restarts are needed to find this "
        "image: about log2 of the number of images that the engine processes at the same time (7 "
        "for a hundred images), and one or two more for each further such image.",
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
    """How images are described.

    The settings that change an answer are part of the caption fingerprint.
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
        description="Path of a Jinja file with the chat template, if the checkpoint contains none.",
    )
    num_variants: int = Field(
        5, ge=1, le=32, description="Number of descriptions for each image. RSRT also uses 5."
    )
    variants_by: Literal["samples", "one_request"] = Field(
        "samples",
        description="`samples`: the engine generates one answer for each variant. `one_request`: "
        "the engine generates one answer with all variants.",
    )
    temperature: float = Field(
        0.7, ge=0, le=2, description="Sampling temperature. With 0, all variants would be equal."
    )
    top_p: Fraction = Field(
        0.95,
        description="Limit for nucleus sampling. It excludes unlikely tokens, which a high "
        "temperature would allow.",
    )
    max_tokens: PositiveInt = Field(
        512,
        description="Maximum length of one variant, in tokens. The variants of RSRT have about 130 "
        "tokens, so the limit truncates only endless answers.",
    )
    max_attempts: int = Field(
        3,
        ge=1,
        le=10,
        description="Maximum number of requests for an image. If an answer is empty, repeated or "
        "truncated, it is requested again with a higher temperature.",
    )
    structured_output: bool = Field(
        True,
        description="Whether a token mask enforces the form of the answers. Use `false` only to "
        "measure the cost of the mask.",
    )
    seed: int | None = Field(
        None,
        description="If set, the seed of every request is derived from this number and the image, "
        "so that runs can be compared. This makes captioning slower.",
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
