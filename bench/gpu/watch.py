"""Observe the GPU during a block, with NVIDIA's management library."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from types import TracebackType
from typing import Any

_PERIOD_S = 0.1
_GIB = 2**30


class GpuWatch:
    """Samples GPU 0 ten times per second, in a thread, while the block runs.

    On a machine without NVIDIA's driver it records nothing.
    """

    def __init__(self) -> None:
        self._samples: list[tuple[float, float, float, float]] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> GpuWatch:
        found = _nvml()
        if found is not None:
            self._thread = threading.Thread(target=self._look, args=found, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def between(self, start: float, end: float) -> dict[str, float]:
        """Return the observations between two readings of ``time.monotonic``.

        ``gpu_waited_share`` is the part of the time without a running kernel, ``gpu_memory_gib``
        the peak memory of all processes, ``gpu_power_w`` the mean power. Empty without a GPU.
        """
        seen = [sample for sample in self._samples if start <= sample[0] <= end]
        if not seen:
            return {}
        return {
            "gpu_waited_share": round(1 - statistics.fmean(s[1] for s in seen) / 100, 4),
            "gpu_memory_gib": round(max(s[2] for s in seen) / _GIB, 2),
            "gpu_power_w": round(statistics.fmean(s[3] for s in seen), 1),
        }

    def _look(self, nvml: Any, device: Any) -> None:
        while not self._stop.wait(_PERIOD_S):
            busy = float(nvml.nvmlDeviceGetUtilizationRates(device).gpu)
            memory = float(nvml.nvmlDeviceGetMemoryInfo(device).used)
            power = 0.0
            with contextlib.suppress(nvml.NVMLError):  # some virtual machines do not report it
                power = nvml.nvmlDeviceGetPowerUsage(device) / 1000
            self._samples.append((time.monotonic(), busy, memory, power))


def _nvml() -> tuple[Any, Any] | None:
    """Return NVIDIA's library and its handle of GPU 0, or None without a GPU."""
    # Use vLLM's copy, because vLLM does not require nvidia-ml-py.
    from vllm.third_party import pynvml

    try:
        pynvml.nvmlInit()
        return pynvml, pynvml.nvmlDeviceGetHandleByIndex(0)
    except pynvml.NVMLError:
        return None


def has_gpu() -> bool:
    """Return whether there is a CUDA GPU that the installed vLLM can use."""
    import torch

    return bool(torch.cuda.is_available())


def gpu_name() -> str | None:
    """Return the GPU's name, driver and memory, or None without one."""
    found = _nvml()
    if found is None:
        return None
    nvml, device = found
    memory = nvml.nvmlDeviceGetMemoryInfo(device).total / _GIB
    driver = nvml.nvmlSystemGetDriverVersion()
    return f"{nvml.nvmlDeviceGetName(device)}, {memory:.0f} GiB, driver {driver}"
