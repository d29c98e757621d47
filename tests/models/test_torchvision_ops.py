"""Test the declared operators of torchvision. Each case runs in its own interpreter, because
imports cannot be undone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LIB = Path(__file__).parents[2] / "lib"


def run_python(code: str, *, flags: tuple[str, ...] = ()) -> str:
    environment = {**os.environ, "PYTHONPATH": str(LIB)}
    done = subprocess.run(
        [sys.executable, *flags, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_torchvision_torchaudio_and_torchcodec_can_be_imported() -> None:
    """Test that the imports work in every interpreter because of the .pth file of the
    environment."""
    code = """
from torchvision.transforms import v2
import torchaudio
try:
    import torchcodec.decoders
except (ImportError, RuntimeError):  # What vLLM and sentence-transformers allow for.
    pass
import transformers.image_utils
print(v2.Resize((2, 2)).size)
"""
    assert run_python(code) == "[2, 2]"


def test_declaring_twice_and_after_the_import_changes_nothing() -> None:
    code = """
from skytext.models import torchvision_ops
torchvision_ops.declare_missing_ops()
declared = list(torchvision_ops._declared)
torchvision_ops.declare_missing_ops()
import torchvision
torchvision_ops.declare_missing_ops()
print(torchvision_ops._declared == declared)
"""
    assert run_python(code) == "True"


def test_loadable_compiled_operators_are_not_changed() -> None:
    """Test that existing operators, as in torchvision+cpu, get no second schema."""
    code = """
import torch
library = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from skytext.models import torchvision_ops
torchvision_ops.declare_missing_ops()
print(torchvision_ops._declared)
"""
    assert run_python(code) == "[]"


def test_without_torch_nothing_happens() -> None:
    # With -S there are no site-packages, so neither torch nor torchvision is installed.
    code = """
from skytext.models.torchvision_ops import declare_missing_ops, watch_imports
watch_imports()
declare_missing_ops()
try:
    import torchvision
except ModuleNotFoundError as error:
    print(error)
"""
    assert run_python(code, flags=("-S",)) == "No module named 'torchvision'"


def test_watching_is_cheap_and_done_once() -> None:
    code = """
import sys
before = set(sys.modules)
from skytext.models.torchvision_ops import watch_imports
finders = len(sys.meta_path)
watch_imports()
watch_imports()
print(len(sys.meta_path) - finders, sorted({"torch", "pathlib", "typing"} & set(sys.modules)))
"""
    assert run_python(code, flags=("-S",)) == "1 []"


@pytest.mark.proof
def test_an_engine_process_of_vllm_imports() -> None:
    """Test a spawned child, which imports vllm.v1.engine.core before vLLM loads any plugin."""
    code = """
import multiprocessing, importlib
child = multiprocessing.get_context("spawn").Process(
    target=importlib.import_module, args=("vllm.v1.engine.core",)
)
child.start()
child.join(240)
print(child.exitcode)
"""
    assert run_python(code).endswith("0")
