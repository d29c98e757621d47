"""Test the advice for messages about memory from vLLM 0.26 to 0.33. `vllm_names.py` checks that
vLLM contains these messages."""

from __future__ import annotations

import re

import pytest

from skytext.config.captioning import EngineConfig
from skytext.config.settings import Config
from skytext.models.vllm.memory_advice import memory_advice

HELD = (
    "ValueError: Free memory on device cuda:0 (11.4/79.19 GiB) on startup is less than desired GPU "
    "memory utilization (0.92, 72.85 GiB). Decrease GPU memory utilization or reduce GPU memory "
    "used by other processes."
)
NO_CACHE = (
    "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` "
    "when initializing the engine (this flag also controls CPU memory reservation on the CPU "
    "backend, despite its name). See https://docs.vllm.ai/en/latest/configuration/"
    "conserving_memory/ for more details."
)
TOO_LONG = (
    "ValueError: To serve at least one request with the model's max seq len (32768), (4.0 GiB KV "
    "cache is needed, which is larger than the available KV cache memory (1.7 GiB). Based on the "
    "available memory, the estimated maximum model length is 13904. Try increasing "
    "`gpu_memory_utilization` (which also controls CPU memory on the CPU backend) or decreasing "
    "`max_model_len` when initializing the engine."
)
SAMPLER = (
    "RuntimeError: CUDA out of memory occurred when warming up sampler with 1024 dummy requests. "
    "Please try lowering `max_num_seqs` or `gpu_memory_utilization` when initializing the engine."
)
TORCH = (
    "OutOfMemoryError: CUDA out of memory. Tried to allocate 172.00 MiB. GPU 0 has a total "
    "capacity of 15.77 GiB of which 90.88 MiB is free."
)
ON_A_CPU = (
    "RuntimeError: Worker failed with error 'Available memory on node 0 (20.0/23.54 GiB) on kv "
    "cache allocation is less than requested memory for kv (1000.0 GiB). Decrease "
    "--kv-cache-memory-bytes, VLLM_CPU_KVCACHE_SPACE, or reduce CPU memory used by other "
    "processes.', please check the stack trace above for the root cause"
)
CONFIG = EngineConfig(
    max_num_seqs=512, gpu_memory_utilization=0.8, cpu_kv_cache_gib=40, max_model_len=8192
)


@pytest.mark.parametrize(
    ("message", "settings"),
    [
        (HELD, {"gpu_memory_utilization": "0.8"}),
        (
            NO_CACHE,
            {
                "gpu_memory_utilization": "0.8",
                "max_num_batched_tokens": "not set",
                "max_num_seqs": "512",
                "options": None,
                "tensor_parallel_size": "1",
            },
        ),
        (
            TOO_LONG,
            {
                "max_model_len": "8192",
                "gpu_memory_utilization": "0.8",
                "options": None,
                "tensor_parallel_size": "1",
            },
        ),
        (SAMPLER, {"max_num_seqs": "512", "gpu_memory_utilization": "0.8"}),
        (
            TORCH,
            {
                "max_num_batched_tokens": "not set",
                "max_num_seqs": "512",
                "gpu_memory_utilization": "0.8",
                "options": None,
                "tensor_parallel_size": "1",
            },
        ),
    ],
)
def test_each_message_names_the_settings_to_change(
    message: str, settings: dict[str, str | None]
) -> None:
    advice = memory_advice(message, CONFIG, device="cuda")
    assert advice is not None
    named = dict(re.findall(r"caption\.engine\.(\w+)(?: \(([^)]*)\))?", advice))
    assert named == {name: value or "" for name, value in settings.items()}


def test_a_gpu_used_by_another_process_is_recognised() -> None:
    advice = memory_advice(HELD, CONFIG, device="cuda")
    assert advice is not None
    assert advice.startswith("another process uses memory of the GPU")
    assert "embed.num_gpus_per_actor" in advice


@pytest.mark.parametrize("message", [ON_A_CPU, TOO_LONG])
def test_on_a_cpu_its_own_settings_are_named(message: str) -> None:
    advice = memory_advice(message, CONFIG, device="cpu")
    assert advice is not None
    assert "caption.engine.cpu_kv_cache_gib (40)" in advice
    assert "caption.engine.max_model_len (8192)" in advice
    assert "gpu" not in advice


def test_another_failure_is_not_taken_for_memory() -> None:
    message = "ValueError: Model architectures ['Nobody'] are not supported for now."
    assert memory_advice(message, CONFIG, device="cuda") is None


@pytest.mark.parametrize("message", [HELD, NO_CACHE, TOO_LONG, SAMPLER, TORCH, ON_A_CPU])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_setting_that_is_named_exists(message: str, device: str) -> None:
    advice = memory_advice(message, EngineConfig(), device=device) or ""
    settings = Config().model_dump()
    for name in re.findall(r"(?:caption\.engine|embed)\.\w+", advice):
        section = settings
        for part in name.split("."):
            assert part in section
            section = section[part]
