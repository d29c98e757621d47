"""Start a vLLM engine as the settings require. If the start fails, report the cause."""

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

# Number of tokens in a block of the cache. The cache reuses only whole blocks, so a block must not
# be longer than the common beginning of all prompts. vLLM's default for CPUs is 128 tokens, and the
# whole prompt can be shorter.
_CPU_BLOCK_SIZE = 32
# This class runs the model in the core's process. Its short name "uni" has no effect on CPUs: vLLM
# replaces the name by "mp", which starts one more process for the model.
_MODEL_IN_CORE_PROCESS = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
# The engine reports a partial answer after every 32 tokens. Each report shows that the engine does
# not hang. A report takes almost no time.
_TOKENS_PER_SIGN = 32
_MAX_MESSAGE_CHARS = 600


def set_environment(config: CaptionConfig, model: ModelIdentity) -> None:
    """Set vLLM's environment variables in this process. Call this before vLLM is imported.

    Raises:
        ConfigError: the list of cores is invalid.
    """
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(config.engine.cpu_kv_cache_gib))
    if config.engine.cpu_cores is not None:
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = config.engine.cpu_cores
        os.environ[CORES_VARIABLE] = ",".join(map(str, parse_cores(config.engine.cpu_cores)))
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    # The child processes of the engine check whether this process is still running (vllm#55510).
    os.environ[PARENT_VARIABLE] = str(os.getpid())
    if model.is_local:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")


def parse_cores(text: str) -> list[int]:
    """Parse a list of cores in vLLM's format, such as ``0-3,8``.

    If there are several tensor-parallel ranks, a ``|`` separates the cores of one rank from the
    cores of the next rank.

    Raises:
        ConfigError: the text does not have this format.
    """
    cores: set[int] = set()
    try:
        for part in text.replace("|", ",").split(","):
            first, _, last = part.partition("-")
            cores.update(range(int(first), int(last or first) + 1))
    except ValueError as error:
        raise ConfigError(
            "caption.engine.cpu_cores must be a list of cores such as '0-3' or '0,2' (given: "
            f"{text!r})"
        ) from error
    return sorted(cores)


def engine_options(config: EngineConfig, model: ModelIdentity, *, device: str) -> dict[str, Any]:
    """Return the values for vLLM's AsyncEngineArgs.

    Args:
        config: the settings. ``config.options`` overrides all other settings.
        model: the checkpoint.
        device: vLLM's ``device_type``, such as ``cpu`` or ``cuda``.
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
        # An archive contains each image only once, so a cache of preprocessed images is useless.
        "mm_processor_cache_gb": 0,
        "disable_log_stats": True,
        "stream_interval": _TOKENS_PER_SIGN,
    }
    if device == "cpu":
        if config.dtype == "auto":
            # In vLLM, the value `auto` means bfloat16 on every CPU.
            options["dtype"] = native_precision(device)
        options["block_size"] = _CPU_BLOCK_SIZE
        if config.tensor_parallel_size == 1:
            # Do not use a separate process for the model. This process would also import vLLM, and
            # each step of the engine would send data to it. On two cores, the start without this
            # process takes half the time, and the engine generates 1.3 to 1.9 times as many tokens
            # per second.
            options["distributed_executor_backend"] = _MODEL_IN_CORE_PROCESS
        # Do not compile the model. Compilation makes the start slower, and needs a C++ compiler on
        # every machine. With torch 2.13, compilation fails if the path of the environment contains
        # a space.
        options["enforce_eager"] = True
    else:
        options["gpu_memory_utilization"] = config.gpu_memory_utilization
    return options | config.options


def start_engine(
    config: CaptionConfig, model: ModelIdentity, processes: EngineProcesses, *, device: str
) -> Any:
    """Start an engine and return vLLM's ``AsyncLLM``.

    Raises:
        ConfigError: an option in the settings is not an option of vLLM.
        ModelError: vLLM cannot serve the checkpoint, or the device has too little memory.
        JobError: the start took too long.
    """
    from vllm import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext

    try:
        args = AsyncEngineArgs(**engine_options(config.engine, model, device=device))
    except TypeError as error:
        raise ConfigError(
            f"caption.engine.options may contain only fields of vLLM's AsyncEngineArgs: {error}"
        ) from error
    # On a GPU, use vLLM's defaults for offline work. These are 8192 or 16384 tokens per step,
    # depending on the GPU. The default of AsyncLLM is 2048 tokens, which is not enough for four
    # images in a LLaVA model.
    context = UsageContext.ENGINE_CONTEXT if device == "cpu" else UsageContext.LLM_CLASS
    with _start_report() as report, contextlib.ExitStack() as undo:
        undo.callback(processes.end)
        try:
            with start_limit(processes, config.engine.start_timeout_s):
                started = _make_engine(args, context)
        except (ValueError, OSError, RuntimeError) as error:
            # Kill the processes before the report is read, so that the report is complete.
            processes.end()
            failure = start_failure(model, config.engine, error, _root_cause(report), device=device)
            raise ModelError(failure) from error
        undo.pop_all()
    processes.settle()
    return started


def _make_engine(args: Any, context: Any) -> Any:
    """Return vLLM's ``AsyncLLM`` for its AsyncEngineArgs and its UsageContext."""
    from vllm.v1.engine.async_llm import AsyncLLM

    if args.distributed_executor_backend != _MODEL_IN_CORE_PROCESS:
        return AsyncLLM.from_engine_args(args, usage_context=context)
    from vllm.utils.ompmultiprocessing import OMPProcessManager

    config = args.create_engine_config(context)
    threads = OMPProcessManager(config)
    # vLLM reserves one core for the scheduler. Here the scheduler and the model are in one process
    # and never work at the same time, so the model can also use this core. If
    # VLLM_CPU_OMP_THREADS_BIND is "nobind", there is no list of cores.
    if threads.cpu_lists:
        threads.cpu_lists[0] = sorted(threads.cpu_lists[0] + threads.reserved_cpu_list)
    # OpenMP reads its settings when a process starts. vLLM sets them only for a separate process of
    # the model, and in an actor with one CPU, Ray sets the number of threads to one. Therefore set
    # them here.
    with threads.configure_omp_envs(rank=0, local_rank=0):
        return AsyncLLM.from_vllm_config(
            config, usage_context=context, disable_log_stats=args.disable_log_stats
        )


@contextlib.contextmanager
def _start_report() -> Iterator[Path]:
    """Provide a file to which the engine's processes write start errors."""
    with tempfile.TemporaryDirectory(prefix="skytext-engine-") as folder:
        report = Path(folder) / "report"
        os.environ[REPORT_VARIABLE] = str(report)
        try:
            yield report
        finally:
            # The folder is deleted now, so processes that start later must not write to it.
            os.environ.pop(REPORT_VARIABLE, None)


def _root_cause(report: Path) -> str | None:
    """Return the first error in the file, or None if there is no error.

    The first error is the cause. Later errors come from processes that waited for the process that
    failed first.
    """
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
    """Return one line that explains why a start failed and what to do.

    Args:
        model: the checkpoint.
        config: the settings.
        error: the error that vLLM raised in this process.
        root_cause: the error that the engine's processes wrote to the file, or None.
        device: vLLM's ``device_type``.
    """
    message = " ".join((root_cause or str(error)).split())
    advice = (
        memory_advice(message, config, device=device) or "see the log lines of the engine above"
    )
    return f"vLLM cannot serve the model {model.name!r}: {message[:_MAX_MESSAGE_CHARS]} ({advice})"
