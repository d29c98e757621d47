"""Advice for an engine that needs more memory than its device has. The module imports no vLLM.

The patterns match the error messages of vLLM 0.26 to 0.33. The start of an engine can fail in three
steps. It can fail before the weights are loaded, if another process uses the memory. It can fail
when vLLM measures how much memory a full batch needs. It can fail when vLLM allocates the cache.
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

# The advice of the first matching pattern is used. Later patterns are more general.
_GPU_ADVICE = (
    (
        # vLLM writes this message before the engine allocates memory on the device.
        r"less than desired GPU memory utilization",
        f"another process uses memory of the GPU: end that process, or lower {_UTILIZATION}. "
        "An embedder on the same GPU (embed.num_gpus_per_actor) also needs memory",
    ),
    (
        r"No available memory for the cache blocks|to serve even a single token",
        f"the weights and a full batch leave no memory for the cache: raise {_UTILIZATION}, lower "
        f"{_BATCHED_TOKENS} or {_NUM_SEQS}, try {_FP8_WEIGHTS}, or {_MORE_GPUS}",
    ),
    (
        r"max seq len .*larger than|larger than the available KV cache",
        f"the longest possible prompt and answer do not fit in the cache: lower {_MODEL_LEN}, "
        f"raise {_UTILIZATION}, try {_FP8_CACHE}, or {_MORE_GPUS}",
    ),
    (
        r"warming up sampler",
        "there is not enough memory for this number of answers in one batch: lower "
        f"{_NUM_SEQS} or {_UTILIZATION}",
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
    """Return a text that advises which settings to change. It contains the current values.

    Args:
        message: the engine's error message.
        config: the engine's settings.
        device: ``cpu``, or any other string for an accelerator.

    Returns:
        The advice. None if the message does not show that memory is the cause.
    """
    values = {
        name: "not set" if value is None else value for name, value in config.model_dump().items()
    }
    for pattern, advice in _CPU_ADVICE if device == "cpu" else _GPU_ADVICE:
        if re.search(pattern, message):
            return advice.format(**values)
    return None
