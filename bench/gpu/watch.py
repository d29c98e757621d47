"""Observe the GPU while a ``with`` block runs, with NVIDIA's management library."""

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
    """A context manager that samples the state of GPU 0 ten times per second.

    If the driver of NVIDIA is not installed, there are no samples.
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
        """Return the results between two values of ``time.monotonic``, or {} if there is no GPU.

        ``gpu_waited_share`` is the share of the time in which no kernel was running.
        ``gpu_memory_gib`` is the maximum memory use of all processes together. ``gpu_power_w`` is
        the mean power.
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
            with contextlib.suppress(
                nvml.NVMLError
            ):  # Some virtual machines do not report the power.
                power = nvml.nvmlDeviceGetPowerUsage(device) / 1000
            self._samples.append((time.monotonic(), busy, memory, power))


def _nvml() -> tuple[Any, Any] | None:
    """Return NVIDIA's library and its handle of GPU 0, or None if there is no GPU."""
    # Use the copy of the library in vLLM, because the package nvidia-ml-py may be missing.
    from vllm.third_party import pynvml

    try:
        pynvml.nvmlInit()
        return pynvml, pynvml.nvmlDeviceGetHandleByIndex(0)
    except pynvml.NVMLError:
        return None


def has_gpu() -> bool:
    """Return true if torch can use a CUDA GPU on this machine."""
    import torch

    return bool(torch.cuda.is_available())


def gpu_name() -> str | None:
    """Return the name, the memory and the driver version of the GPU, or None if there is no GPU."""
    found = _nvml()
    if found is None:
        return None
    nvml, device = found
    memory = nvml.nvmlDeviceGetMemoryInfo(device).total / _GIB
    driver = nvml.nvmlSystemGetDriverVersion()
    return f"{nvml.nvmlDeviceGetName(device)}, {memory:.0f} GiB, driver {driver}"
