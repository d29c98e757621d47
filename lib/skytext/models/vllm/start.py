"""Start a vLLM engine from the configuration, and say why where it does not start."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skytext.config.captioning import CaptionConfig, EngineConfig
from skytext.errors import ConfigError, ModelError
from skytext.models.checkpoints import ModelIdentity
from skytext.models.precision import native_precision
from skytext.models.vllm.memory_advice import memory_advice
from skytext.models.vllm.process_plugin import CORES_VARIABLE, PARENT_VARIABLE, REPORT_VARIABLE
from skytext.models.vllm.processes import EngineProcesses, start_limit

# A block must be no longer than the part of the prompt that variants share, or nothing is shared;
# vLLM's own default on CPUs is 128 tokens, longer than a small model's whole prompt.
_CPU_BLOCK_SIZE = 32
# An answer is heard of once in so many tokens: a sign of life that costs next to nothing.
_TOKENS_PER_SIGN = 32
_MAX_MESSAGE_CHARS = 600


def set_environment(config: CaptionConfig, model: ModelIdentity) -> None:
    """Set the variables that vLLM reads when it is first used; the actor's process is its own.

    Raises:
        ConfigError: the list of cores is no list of cores.
    """
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(config.engine.cpu_kv_cache_gib))
    if config.engine.cpu_cores is not None:
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = config.engine.cpu_cores
        os.environ[CORES_VARIABLE] = ",".join(map(str, parse_cores(config.engine.cpu_cores)))
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    # The child watches this process and ends with it (vllm#55510).
    os.environ[PARENT_VARIABLE] = str(os.getpid())
    if model.is_local:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")


def parse_cores(text: str) -> list[int]:
    """Read a list of cores in vLLM's form: ``0-3,8``, ranks of tensor parallelism split by ``|``.

    Raises:
        ConfigError: it is not of that form.
    """
    cores: set[int] = set()
    try:
        for part in text.replace("|", ",").split(","):
            first, _, last = part.partition("-")
            cores.update(range(int(first), int(last or first) + 1))
    except ValueError as error:
        raise ConfigError(
            f"caption.engine.cpu_cores {text!r} must list cores, e.g. '0-3' or '0,2'"
        ) from error
    return sorted(cores)


def engine_options(config: EngineConfig, model: ModelIdentity, *, device: str) -> dict[str, Any]:
    """Return the fields of vLLM's AsyncEngineArgs that the configuration means.

    Args:
        config: the settings; its ``options`` have the last word.
        model: the checkpoint.
        device: vLLM's ``device_type``: ``cpu``, ``cuda``, …
    """
    options: dict[str, Any] = {
        "model": model.source,
        "revision": None if model.is_local else model.revision,
        "dtype": config.dtype,
        "max_model_len": config.max_model_len,
        "max_num_seqs": config.max_num_seqs,
        "max_num_batched_tokens": config.max_num_batched_tokens,
        "tensor_parallel_size": config.tensor_parallel_size,
        "limit_mm_per_prompt": {"image": 1},
        "enable_prefix_caching": True,
        # Archives do not repeat images, so a cache of preprocessed ones would only fill memory.
        "mm_processor_cache_gb": 0,
        "disable_log_stats": True,
        "stream_interval": _TOKENS_PER_SIGN,
    }
    if device == "cpu":
        if config.dtype == "auto":
            # vLLM's own `auto` takes bfloat16 on every processor.
            options["dtype"] = native_precision(device)
        options["block_size"] = _CPU_BLOCK_SIZE
        # Compiled, the model starts later, needs a C++ compiler on every machine, and torch 2.13's
        # fails where the environment's path holds a space.
        options["enforce_eager"] = True
    else:
        options["gpu_memory_utilization"] = config.gpu_memory_utilization
    return options | config.options


def start_engine(
    config: CaptionConfig, model: ModelIdentity, processes: EngineProcesses, *, device: str
) -> Any:
    """Start an engine and return vLLM's ``AsyncLLM``.

    Raises:
        ConfigError: an option that vLLM does not know.
        ModelError: the checkpoint cannot be served, or does not fit the device.
        JobError: it was not up in time.
    """
    from vllm import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    try:
        args = AsyncEngineArgs(**engine_options(config.engine, model, device=device))
    except TypeError as error:
        raise ConfigError(
            f"caption.engine.options: {error}; these must be fields of vLLM's AsyncEngineArgs"
        ) from error
    # On a GPU vLLM's defaults for work off line: 8192 or 16384 tokens a step, by the device. For
    # an AsyncLLM it would take 2048, not four images of a LLaVA, on any device.
    context = UsageContext.ENGINE_CONTEXT if device == "cpu" else UsageContext.LLM_CLASS
    with _start_report() as report, contextlib.ExitStack() as undo:
        undo.callback(processes.end)
        try:
            with start_limit(processes, config.engine.start_timeout_s):
                started = AsyncLLM.from_engine_args(args, usage_context=context)
        except (ValueError, OSError, RuntimeError) as error:
            # Ended first: what they have to say is written by then.
            processes.end()
            failure = start_failure(model, config.engine, error, _root_cause(report), device=device)
            raise ModelError(failure) from error
        undo.pop_all()
    processes.settle()
    return started


@contextlib.contextmanager
def _start_report() -> Iterator[Path]:
    """Give the engine's processes a file to say in why they could not start."""
    with tempfile.TemporaryDirectory(prefix="skytext-engine-") as folder:
        report = Path(folder) / "report"
        os.environ[REPORT_VARIABLE] = str(report)
        try:
            yield report
        finally:
            # A process that starts later would look for a folder that is gone.
            os.environ.pop(REPORT_VARIABLE, None)


def _root_cause(report: Path) -> str | None:
    """Return the first error that was reported: those that follow are of who waited for it."""
    try:
        lines = report.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return None
    return lines[0] if lines else None


def start_failure(
    model: ModelIdentity,
    config: EngineConfig,
    error: Exception,
    root_cause: str | None,
    *,
    device: str,
) -> str:
    """Return why an engine did not start, in one line, and what to change.

    Args:
        model: the checkpoint.
        config: the settings.
        error: what vLLM raised in this process.
        root_cause: what its own processes reported, if any of them did.
        device: vLLM's ``device_type``.
    """
    message = " ".join((root_cause or str(error)).split())
    advice = memory_advice(message, config, device=device) or "see the engine's own lines above"
    return f"vLLM cannot serve {model.name!r}: {message[:_MAX_MESSAGE_CHARS]} ({advice})"
