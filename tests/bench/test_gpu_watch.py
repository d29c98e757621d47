from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from bench.gpu import watch
from bench.gpu.watch import GpuWatch, gpu_name


class Nvml:
    """A replacement for NVIDIA's library. The GPU is busy in every second sample."""

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        self.num_looks = 0

    def nvmlDeviceGetUtilizationRates(self, device: str) -> Any:
        self.num_looks += 1
        return SimpleNamespace(gpu=100 * (self.num_looks % 2))

    def nvmlDeviceGetMemoryInfo(self, device: str) -> Any:
        return SimpleNamespace(used=self.num_looks * 2**30, total=80 * 2**30)

    def nvmlDeviceGetPowerUsage(self, device: str) -> float:
        raise self.NVMLError

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.1"

    def nvmlDeviceGetName(self, device: str) -> str:
        return "NVIDIA H100"


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    library = Nvml()
    monkeypatch.setattr(watch, "_nvml", lambda: (library, "gpu 0"))
    monkeypatch.setattr(watch, "_PERIOD_S", 0.001)
    return library


def test_the_share_of_time_without_a_kernel_is_measured(nvml: Nvml) -> None:
    started = time.monotonic()
    with GpuWatch() as seen:
        while nvml.num_looks < 10:
            time.sleep(0.001)
    found = seen.between(started, time.monotonic())
    assert 0.4 < found["gpu_waited_share"] < 0.6
    assert found["gpu_memory_gib"] == nvml.num_looks
    assert found["gpu_power_w"] == 0
    assert seen.between(started - 2, started - 1) == {}


def test_a_gpu_has_a_name(nvml: Nvml) -> None:
    assert gpu_name() == "NVIDIA H100, 80 GiB, driver 580.1"


def test_nothing_is_recorded_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_nvml", lambda: None)
    with GpuWatch() as seen:
        pass
    assert seen.between(0, time.monotonic()) == {}
    assert gpu_name() is None
