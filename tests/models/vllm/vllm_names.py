"""Check that the source of vLLM contains the names that skytext uses. vLLM is not imported.

The check works with the installed vLLM, and with any other vLLM that is unpacked from its wheel:

    python -m tests.models.vllm.vllm_names FOLDER_OF_THE_PACKAGE
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

# The fields, methods and properties that skytext uses, by file and by class. The arguments of a
# method follow the name of the method.
USED: Mapping[str, Mapping[str, Sequence[str]]] = {
    "engine/arg_utils.py": {
        "EngineArgs": (
            "model",
            "revision",
            "dtype",
            "max_model_len",
            "max_num_seqs",
            "max_num_batched_tokens",
            "tensor_parallel_size",
            "limit_mm_per_prompt",
            "enable_prefix_caching",
            "mm_processor_cache_gb",
            "disable_log_stats",
            "block_size",
            "enforce_eager",
            "gpu_memory_utilization",
            "stream_interval",
            # These names are used in bench.gpu and in the documents.
            "load_format",
            "quantization",
            "kv_cache_dtype",
            "hf_overrides",
            "mm_processor_kwargs",
        ),
        "AsyncEngineArgs": (),
    },
    "v1/engine/async_llm.py": {
        "AsyncLLM": (
            "from_engine_args(engine_args, usage_context)",
            "generate(prompt, sampling_params, request_id)",
            "shutdown()",
            "errored()",
            "model_config",
        ),
    },
    "usage/usage_lib.py": {"UsageContext": ("ENGINE_CONTEXT", "LLM_CLASS")},
    "v1/engine/exceptions.py": {"EngineDeadError": (), "EngineGenerateError": ()},
    "exceptions.py": {"VLLMValidationError": ()},
    "sampling_params.py": {
        "SamplingParams": (
            "n",
            "temperature",
            "top_p",
            "max_tokens",
            "seed",
            "structured_outputs",
            "output_kind",
            "detokenize",
            "ignore_eos",
        ),
        "StructuredOutputsParams": ("regex",),
        "RequestOutputKind": ("DELTA",),
    },
    "outputs.py": {
        "RequestOutput": ("prompt_token_ids", "num_cached_tokens", "outputs"),
        "CompletionOutput": ("index", "token_ids", "finish_reason"),
    },
    "platforms/interface.py": {"Platform": ("device_type", "get_device_name(device_id)")},
}
# The messages and option values of vLLM that skytext uses, by file.
SAID: Mapping[str, Sequence[str]] = {
    "v1/engine/core.py": ("failed to start",),
    "v1/executor/multiproc_executor.py": ("failed to start",),
    "v1/engine/input_processor.py": ("longer than the maximum",),
    "renderers/params.py": ("maximum context length",),
    # The documents and bench.gpu use these names. In vLLM 0.33, "fp8" alone no longer quantises a
    # model.
    "model_executor/layers/quantization/__init__.py": ('"fp8_per_tensor"',),
    "config/cache.py": ('"fp8"',),
    "v1": (
        "less than desired GPU memory utilization",
        "No available memory for the cache blocks",
        "larger than the available KV cache",
        "to serve even a single token",
        "warming up sampler",
    ),
}


def missing(package: Path) -> Iterator[str]:
    """Yield the used names that a version of vLLM does not have."""
    for file, classes in USED.items():
        for name, members in classes.items():
            found = _class(package / file, name)
            if found is None:
                yield f"{file}: {name}"
                continue
            there = dict(_members(found))
            for member in members:
                method, _, arguments = member.rstrip(")").partition("(")
                wanted = [word for word in arguments.split(", ") if word]
                if method not in there or not set(wanted) <= there[method]:
                    yield f"{file}: {name}.{member}"
    for where, texts in SAID.items():
        path = package / where
        files = [path] if path.is_file() else sorted(path.rglob("*.py"))
        sources = [file.read_text(encoding="utf-8") for file in files]
        yield from (f"{where}: {text!r}" for text in texts if not any(text in s for s in sources))


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _class(path: Path, name: str) -> ast.ClassDef | None:
    if not path.is_file():
        return None
    nodes = (node for node in ast.walk(_tree(path)) if isinstance(node, ast.ClassDef))
    return next((node for node in nodes if node.name == name), None)


def _members(node: ast.ClassDef) -> Iterator[tuple[str, set[str]]]:
    """Yield each field with an empty set, and each method with the names of its arguments."""
    for item in ast.walk(node):
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            yield item.target.id, set()
        elif isinstance(item, ast.Assign):
            for target in item.targets:
                if isinstance(target, ast.Name | ast.Attribute):
                    yield target.id if isinstance(target, ast.Name) else target.attr, set()
        elif isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = item.args.posonlyargs + item.args.args + item.args.kwonlyargs
            yield item.name, {argument.arg for argument in arguments}
            if item.name == "__init__":
                # A plain class gets its fields as arguments of ``__init__``.
                yield from ((argument.arg, set()) for argument in arguments)


def installed() -> Path | None:
    """Return the folder of the installed vLLM, without importing vLLM."""
    spec = find_spec("vllm")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


if __name__ == "__main__":
    lacking = list(missing(Path(sys.argv[1])))
    sys.stdout.writelines(f"missing: {what}\n" for what in lacking)
    sys.exit(bool(lacking))
