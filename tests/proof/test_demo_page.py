"""Test that ``skytext demo`` serves the web page at its end until Ctrl-C is pressed.

The command serves the page only if it was started in a terminal.
"""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

LIMIT_S = 300


@pytest.mark.proof
@pytest.mark.vllm
@pytest.mark.ray
def test_the_demo_serves_its_page_until_ctrl_c(tmp_path: Path) -> None:
    terminal, inside = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    running = subprocess.Popen(
        [sys.executable, "-c", "from skytext.cli import main; main()", "demo", "--num-images", "8"],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        cwd=tmp_path,
        env=environment,
        start_new_session=True,
    )
    os.close(inside)
    try:
        url = _address(terminal)
        with httpx.Client(base_url=url, timeout=20) as http:
            assert "<title>skytext</title>" in http.get("/").text
            (best,) = http.post("/v1/search", json={"text": "a river", "k": 1}).json()["hits"]
            picture = http.get(f"/v1/images/{best['image_id']}/thumbnail")
            assert picture.headers["content-type"] == "image/webp"
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 0
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
        os.close(terminal)


def _address(terminal: int) -> str:
    """Read the output until it contains the address of the page."""
    output, deadline = "", time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 1.0)[0]:
            output += os.read(terminal, 65536).decode(errors="replace")
            found = re.search(r"web page: (http://127\.0\.0\.1:\d+/)", output)
            if found:
                return found[1]
    raise AssertionError(output[-2000:])
