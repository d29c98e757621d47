"""Advice for an engine that needs more memory than its device has (this module imports no vLLM).

The patterns match the messages of vLLM 0.26 to 0.33. The start can fail in three steps: before the
weights are loaded (another process uses the memory), when vLLM measures the memory of a full batch,
and when vLLM allocates the cache.
"""

from __future__ import annotations

import re

from skytext.config.captioning import EngineConfig

_OPTIONS = "caption.engine.options"
_FP8_WEIGHTS = f"weights in 8 bits ({_OPTIONS} quantization: fp8_per_tensor)"
_FP8_CACHE = f"a cache in 8 bits ({_OPTIONS} kv_cache_dtype: fp8)"
_MORE_GPUS = "raise caption.engine.tensor_parallel_size ({tensor_parallel_size})"
_UTILIZATION = "caption.engine.gpu_memory_utilization ({gpu_memory_utilization:g})"
_BATCHED_TOKENS = "caption.engine.max_num_batched_tokens ({max_num_batched_tokens})"
_NUM_SEQS = "caption.engine.max_num_seqs ({max_num_seqs})"
_MODEL_LEN = "caption.engine.max_model_len ({max_model_len})"

# The first pattern that matches is used. Later patterns are more general.
_GPU_ADVICE = (
    (
        # This message comes before the engine has allocated memory on the device.
        r"less than desired GPU memory utilization",
        f"another process uses GPU memory: end it, or lower {_UTILIZATION}; an embedder on the "
        "same GPU (embed.num_gpus_per_actor) also needs memory",
    ),
    (
        r"No available memory for the cache blocks|to serve even a single token",
        f"the weights and a full batch leave no memory for the cache: raise {_UTILIZATION}, lower "
        f"{_BATCHED_TOKENS} or {_NUM_SEQS}, try {_FP8_WEIGHTS}, or {_MORE_GPUS}",
    ),
    (
        r"max seq len .*larger than|larger than the available KV cache",
        f"the longest prompt and answer do not fit in the cache: lower {_MODEL_LEN}, raise "
        f"{_UTILIZATION}, try {_FP8_CACHE}, or {_MORE_GPUS}",
    ),
    (
        r"warming up sampler",
        f"not enough memory for so many answers in one batch: lower {_NUM_SEQS} or {_UTILIZATION}",
    ),
    (
        r"OutOfMemoryError|out of memory|OUT_OF_MEMORY|memory",
        f"lower {_BATCHED_TOKENS}, {_NUM_SEQS} or {_UTILIZATION}, try {_FP8_WEIGHTS}, or "
        f"{_MORE_GPUS}",
    ),
)
_CPU_ADVICE = (
    (
        r"max seq len .*larger than|larger than the available KV cache",
        f"lower {_MODEL_LEN}, or raise caption.engine.cpu_kv_cache_gib ({{cpu_kv_cache_gib}})",
    ),
    (
        r"[Mm]emory",
        f"lower caption.engine.cpu_kv_cache_gib ({{cpu_kv_cache_gib}}), {_MODEL_LEN} or "
        f"{_NUM_SEQS}, set caption.engine.dtype ({{dtype}}) to bfloat16, or free some of the "
        "machine's memory",
    ),
)


def memory_advice(message: str, config: EngineConfig, *, device: str) -> str | None:
    """Return advice: the settings to change, with their present values.

    Args:
        message: the engine's error message.
        config: the engine's settings.
        device: ``cpu``, or any other text for an accelerator.

    Returns:
        The advice, or None if too little memory is not the cause.
    """
    values = {
        name: "not set" if value is None else value for name, value in config.model_dump().items()
    }
    for pattern, advice in _CPU_ADVICE if device == "cpu" else _GPU_ADVICE:
        if re.search(pattern, message):
            return advice.format(**values)
    return None
