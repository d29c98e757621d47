"""Choose the precision that a device multiplies natively."""

from __future__ import annotations


def native_precision(device: str) -> str:
    """Return the name of the fastest floating type that the device multiplies natively.

    A processor without AMX or AVX-512 BF16 emulates bfloat16: LLaVA then gives a third of the
    tokens per second of float32.

    Args:
        device: ``cpu`` or ``cuda``.

    Returns:
        ``bfloat16``, ``float16`` (older GPUs) or ``float32`` (older processors).
    """
    import torch

    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    capability = torch.cpu.get_capabilities()
    native = capability.get("amx_bf16") or capability.get("avx512_bf16")
    return "bfloat16" if native else "float32"
