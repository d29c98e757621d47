"""Install ``requirements/cpu.txt`` with pip, and print the progress.

``make setup`` runs this script. pip itself prints either nothing, or a page of text for each
package. This script prints one line for every 50 packages.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import threading
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("cpu.txt")
STEP = 50
POLL_S = 2.0


def main() -> int:
    """Run pip, and return the exit status of pip."""
    total = sum("==" in line for line in REQUIREMENTS.read_text().splitlines())
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-deps"]
    command += ["--progress-bar", "off", "-r", str(REQUIREMENTS)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as pip:
        assert pip.stdout is not None  # noqa: S101  (for the type checker)
        done, fetched = threading.Event(), 0
        counter = threading.Thread(target=count_installed, args=(total, done))
        for line in pip.stdout:
            if line.startswith(("Collecting", "Processing", "Requirement already")):
                fetched += 1
                if fetched % STEP == 0 or fetched == total:
                    print(f"    {fetched} of {total} packages fetched", flush=True)
            elif line.startswith("Installing collected"):
                counter.start()
            elif line.startswith("ERROR"):
                print(line, end="", file=sys.stderr)
        done.set()
        if counter.ident is not None:
            counter.join()
    return pip.returncode


def count_installed(total: int, done: threading.Event) -> None:
    """Print the number of installed packages from time to time, until ``done`` is set."""
    said = 0
    while not done.wait(POLL_S):
        installed = len(list(Path(sysconfig.get_path("purelib")).glob("*.dist-info")))
        if installed // STEP > said:
            said = installed // STEP
            print(f"    {min(installed, total)} of {total} packages installed", flush=True)


if __name__ == "__main__":
    sys.exit(main())
