"""Test the options and the error messages of the start of an engine. Only one test starts an
engine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skytext.config.captioning import CaptionConfig, EngineConfig
from skytext.errors import ConfigError, ModelError
from skytext.models.checkpoints import ModelIdentity, caption_model
from skytext.models.fingerprints import prompt_of
from skytext.models.vllm.process_plugin import REPORT_VARIABLE
from skytext.models.vllm.processes import EngineProcesses
from skytext.models.vllm.start import engine_options, parse_cores, start_engine, start_failure
from tests.models.vllm.test_memory_advice import HELD, NO_CACHE

LOCAL = ModelIdentity("mine", "/models/mine", "abc", is_local=True)
HUB = ModelIdentity("llava-hf/llava-1.5-7b-hf", "llava-hf/llava-1.5-7b-hf", "abc", is_local=False)
FAILED = RuntimeError("Engine core initialization failed. See root cause above. Failed: {}")


def test_a_gpu_engine_uses_vllms_defaults_for_unset_options() -> None:
    options = engine_options(EngineConfig(), HUB, device="cuda")
    assert (options["model"], options["revision"]) == (HUB.source, "abc")
    assert options["gpu_memory_utilization"] == 0.92
    assert options["max_num_batched_tokens"] is None
    assert {"block_size", "enforce_eager", "quantization", "kv_cache_dtype"}.isdisjoint(options)


def test_a_cpu_engine_runs_eagerly_in_small_blocks() -> None:
    options = engine_options(EngineConfig(), LOCAL, device="cpu")
    assert (options["revision"], options["block_size"], options["enforce_eager"]) == (
        None,
        32,
        True,
    )
    assert "gpu_memory_utilization" not in options


def test_a_cpu_engine_has_no_further_process_for_a_model_on_one_device() -> None:
    one, two = (EngineConfig(tensor_parallel_size=number) for number in (1, 2))
    executor = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
    assert engine_options(one, LOCAL, device="cpu")["distributed_executor_backend"] == executor
    for config, device in ((two, "cpu"), (one, "cuda")):
        assert "distributed_executor_backend" not in engine_options(config, LOCAL, device=device)


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ({"avx2": True}, "float32"),
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
    ],
)
def test_auto_on_a_cpu_is_what_the_processor_multiplies_natively(
    capabilities: dict[str, bool], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: capabilities)
    assert engine_options(EngineConfig(), LOCAL, device="cpu")["dtype"] == precision
    assert engine_options(EngineConfig(), HUB, device="cuda")["dtype"] == "auto"


def test_a_configured_precision_is_kept_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx2": True})
    options = engine_options(EngineConfig(dtype="bfloat16"), LOCAL, device="cpu")
    assert options["dtype"] == "bfloat16"


def test_configured_options_override_everything() -> None:
    config = EngineConfig(
        options={"quantization": "fp8_per_tensor", "enable_prefix_caching": False}
    )
    options = engine_options(config, LOCAL, device="cuda")
    assert (options["quantization"], options["enable_prefix_caching"]) == ("fp8_per_tensor", False)


@pytest.mark.parametrize(
    ("text", "cores"), [("0-3", [0, 1, 2, 3]), ("0,2", [0, 2]), ("0-1|4-5", [0, 1, 4, 5])]
)
def test_cores_are_read_in_vllms_form(text: str, cores: list[int]) -> None:
    assert parse_cores(text) == cores


def test_cores_of_another_form_are_refused() -> None:
    with pytest.raises(ConfigError, match="must be a list of cores"):
        parse_cores("all")


def test_the_reported_cause_is_in_the_error() -> None:
    message = start_failure(HUB, EngineConfig(), FAILED, HELD, device="cuda")
    assert "11.4/79.19 GiB" in message
    assert "lower caption.engine.gpu_memory_utilization (0.92)" in message
    assert "Engine core initialization failed" not in message


def test_without_a_report_the_error_names_the_logs() -> None:
    said = start_failure(HUB, EngineConfig(), FAILED, None, device="cuda")
    assert said.startswith(
        f"vLLM cannot serve the model '{HUB.name}': Engine core initialization failed."
    )
    assert said.endswith("(see the log lines of the engine above)")


def start_with(monkeypatch: pytest.MonkeyPatch, start: Callable[..., Any]) -> Any:
    pytest.importorskip("vllm")
    from vllm.v1.engine.async_llm import AsyncLLM

    monkeypatch.setattr(AsyncLLM, "from_engine_args", start)
    config = CaptionConfig(engine=EngineConfig(start_timeout_s=30))
    return start_engine(config, caption_model(config), EngineProcesses(), device="cuda")


@pytest.mark.vllm
def test_the_first_reported_error_is_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        with Path(os.environ[REPORT_VARIABLE]).open("a", encoding="utf-8") as report:
            report.write(f"{NO_CACHE}\nException: WorkerProc initialization failed\n")
        raise FAILED

    with pytest.raises(ModelError, match="No available memory for the cache") as caught:
        start_with(monkeypatch, fail)
    assert "raise caption.engine.gpu_memory_utilization (0.92)" in str(caught.value)
    assert REPORT_VARIABLE not in os.environ


@pytest.mark.vllm
def test_a_gpu_engine_uses_vllms_defaults_for_offline_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from vllm.usage.usage_lib import UsageContext

    found = []

    def start(args: Any, usage_context: Any) -> str:
        found.append((args.max_num_batched_tokens, usage_context))
        return "engine"

    assert start_with(monkeypatch, start) == "engine"
    assert found == [(None, UsageContext.LLM_CLASS)]


@pytest.mark.vllm
def test_an_option_that_vllm_does_not_know_is_refused() -> None:
    pytest.importorskip("vllm")
    config = CaptionConfig(engine=EngineConfig(options={"max_num_sequences": 1}))
    with pytest.raises(ConfigError, match="only fields of vLLM's AsyncEngineArgs"):
        start_engine(config, caption_model(config), EngineProcesses(), device="cuda")


@pytest.mark.proof
@pytest.mark.vllm
def test_a_real_engine_without_memory_reports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("vllm")
    from skytext.models.vllm.engine import VllmEngine

    # This process must not fork, because it has threads of the servers of other tests.
    monkeypatch.setenv("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    engine = EngineConfig(options={"num_gpu_blocks_override": 4})
    config, processes = CaptionConfig(engine=engine), EngineProcesses()
    with pytest.raises(ModelError, match="larger than the available KV cache") as caught:
        VllmEngine(config, caption_model(config), prompt_of(config), processes)
    assert "lower caption.engine.max_model_len (not set)" in str(caught.value)
    assert processes.alive() == []
