"""Install ``requirements/cpu.txt`` with pip, and print the progress.

``make setup`` runs this script. Two pip processes share the packages, because one pip process
fetches, unpacks and compiles one package after the other. Every package has a fixed version, so the
processes do not depend on each other. pip itself prints either nothing, or a page of text for each
package. This script prints one line for every 50 packages.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("cpu.txt")
NUM_PROCESSES = 2
STEP = 50
POLL_S = 2.0


def main() -> int:
    """Run pip. Return its exit status, which is not 0 if one of the processes failed."""
    packages = [line for line in REQUIREMENTS.read_text().splitlines() if "==" in line]
    running = [start(packages[first::NUM_PROCESSES]) for first in range(NUM_PROCESSES)]
    fetched: list[str] = []
    readers = [threading.Thread(target=read, args=(pip, fetched)) for pip in running]
    for reader in readers:
        reader.start()
    shown = {"fetched": 0, "installed": 0}
    while any(reader.is_alive() for reader in readers):
        time.sleep(POLL_S)
        if any(pip.poll() for pip in running):
            for pip in running:
                pip.terminate()
        counts = {"fetched": len(fetched), "installed": num_installed()}
        for what, count in counts.items():
            if count // STEP > shown[what]:
                shown[what], count = count // STEP, min(count, len(packages))
                print(f"    {count} of {len(packages)} packages {what}", flush=True)
    return max(abs(pip.wait()) for pip in running)


def start(packages: list[str]) -> subprocess.Popen[str]:
    """Start a pip process that installs some packages."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-deps"]
    command += ["--progress-bar", "off", *packages]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def read(pip: subprocess.Popen[str], fetched: list[str]) -> None:
    """Read the output of pip. Add each package to ``fetched``, and print the errors."""
    assert pip.stdout is not None  # noqa: S101  (for the type checker)
    for line in pip.stdout:
        if line.startswith(("Collecting", "Processing", "Requirement already")):
            fetched.append(line)
        elif line.startswith("ERROR"):
            print(line, end="", file=sys.stderr)


def num_installed() -> int:
    """Return the number of packages in this environment."""
    return len(list(Path(sysconfig.get_path("purelib")).glob("*.dist-info")))


if __name__ == "__main__":
    sys.exit(main())
