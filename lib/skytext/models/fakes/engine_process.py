"""The process of the fake engine.

This file is run as a program with ``python -I -S``. The program must start within a few hundredths
of a second, so it imports only the standard library. The program reads requests from stdin and
writes answers to stdout. Each line is one JSON value. A request contains the digest of the image's
pixels, not the image. When the parent process ends, stdin is closed, and then this process also
ends.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import os
import random
import selectors
import signal
import sys
import time
from typing import Any, NoReturn

PROCESS_TITLE = "skytext-fake-engine"
"""A string that the command line of every fake engine process contains."""

_CHUNK_BYTES = 2**20
_WORDS = [
    *("river", "forest", "road", "field", "harbour", "runway", "storage", "tank", "bridge"),
    *("village", "lake", "desert", "snow", "beach", "stadium", "factory", "railway", "canal"),
    *("orchard", "solar"),
]
_NUM_WORDS = 6
_ROOM_TOKENS = 512


class FakeModel:
    """A fake model. Its answers depend only on the request, which contains the digest of the image.

    Args:
        options: the values of `skytext.models.fakes.options.FakeOptions`, by the names of its
            fields.
        fields: the names of the text fields in an answer.
    """

    def __init__(self, options: dict[str, Any], fields: list[str]) -> None:
        self._options = options
        self._fields = fields

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answers or a rejection, or make this process exit or hang."""
        digest: str = request["digest"]
        draw = int(digest[:8], 16) / 2**32
        if self._happens("die", digest, draw):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._happens("hang", digest, draw):
            hang()
        if draw < self._options["fail"]:
            return {
                "id": request["id"],
                "refused": "the fake engine is configured to refuse this image",
            }
        if self._options["journal"]:
            with open(self._options["journal"], "a", encoding="ascii") as journal:
                journal.write(f"{digest}\n")
        answers = [self._sample(digest, draw, i, request) for i in range(request["num_samples"])]
        return {"id": request["id"], "answers": answers}

    def _happens(self, what: str, digest: str, draw: float) -> bool:
        prefixes = self._options[f"{what}_on"].split("+")
        # Use the upper end of the range of `draw`. The lower end is already used to select the
        # images that are rejected, repeated or truncated.
        return 1 - draw <= self._options[what] or any(
            prefix and digest.startswith(prefix) for prefix in prefixes
        )

    def _sample(
        self, digest: str, draw: float, sample: int, request: dict[str, Any]
    ) -> tuple[str, str]:
        num_objects: int = request["objects_per_answer"]
        objects = [
            self._object(digest, draw, sample * num_objects + i, request["temperature"])
            for i in range(num_objects)
        ]
        text = json.dumps(objects[0] if num_objects == 1 else {"variants": objects})
        if draw < self._options["truncate"] and request["max_tokens"] <= _ROOM_TOKENS * num_objects:
            return text[: len(text) // 2], "length"
        return text, "stop"

    def _object(self, digest: str, draw: float, variant: int, temperature: float) -> dict[str, str]:
        repeat = draw < self._options["repeat"]
        key = digest if repeat else f"{digest}{variant}{temperature:.2f}"
        seed = hashlib.sha256(key.encode()).digest()
        rng = random.Random(int.from_bytes(seed[:8], "big"))
        found = {name: " ".join(rng.choices(_WORDS, k=_NUM_WORDS)) for name in self._fields}
        if rng.random() < self._options["empty"]:
            found[self._fields[1]] = " "
        return found


def hang() -> NoReturn:
    """Wait without sending answers, and exit when the parent process ends."""
    while os.read(0, _CHUNK_BYTES):
        pass
    os._exit(0)


def serve(model: FakeModel, delay_s: float) -> None:
    """Answer each request ``delay_s`` seconds after the request arrived. Stop when stdin ends."""
    due: list[tuple[float, int, dict[str, Any]]] = []
    rest = b""
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    while True:
        wait_s = max(0.0, due[0][0] - time.monotonic()) if due else None
        if selector.select(wait_s):
            chunk = os.read(0, _CHUNK_BYTES)
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            at = time.monotonic() + delay_s
            for request in map(json.loads, lines):
                heapq.heappush(due, (at, request["id"], request))
        now = time.monotonic()
        while due and due[0][0] <= now:
            # Write each line separately. If this process crashes, all answers that were already
            # sent are complete.
            _write(model.answer(heapq.heappop(due)[2]))


def _write(value: Any) -> None:
    data = json.dumps(value).encode() + b"\n"
    while data:
        data = data[os.write(1, data) :]


def main() -> None:
    """Start, report that the engine is ready, and answer requests until stdin ends."""
    settings = json.loads(sys.argv[2])
    options = settings["options"]
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    if options["start_s"] and selector.select(options["start_s"]):
        return
    _write({"ready": True})
    serve(FakeModel(options, settings["fields"]), options["delay_s"])


if __name__ == "__main__":
    # If the parent process was killed before it had read all answers, exit without an error
    # message.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    # Ignore Ctrl-C, which a terminal sends to all processes. The parent process ends the engine.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main()
