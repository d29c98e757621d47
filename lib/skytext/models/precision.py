"""Choose the fastest floating-point type for a device."""

from __future__ import annotations


def native_precision(device: str) -> str:
    """Return the fastest floating-point type that the device multiplies in hardware.

    A CPU without AMX or AVX-512 BF16 emulates bfloat16. On such a CPU, LLaVA in bfloat16 is three
    times slower than LLaVA in float32 (in tokens per second).

    Args:
        device: ``cpu`` or ``cuda``.

    Returns:
        ``bfloat16``, ``float16`` (for older GPUs) or ``float32`` (for older CPUs).
    """
    import torch

    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    capability = torch.cpu.get_capabilities()
    native = capability.get("amx_bf16") or capability.get("avx512_bf16")
    return "bfloat16" if native else "float32"
