"""The options in the name of a fake model, such as ``fake:delay_s=2,fail=0.01``."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass

from PIL import Image

from skytext.config.captioning import FAKE_MODEL_PREFIX
from skytext.errors import ConfigError

_SHARES = ("fail", "empty", "repeat", "truncate", "die", "hang")

_PREFIXES = ("die_on", "hang_on")

_DIGESTS = re.compile(r"[0-9a-f]{1,64}(\+[0-9a-f]{1,64})*")


@dataclass(frozen=True, slots=True)
class FakeOptions:
    """The failures that a fake engine simulates.

    Whether an image fails depends only on the pixels of the image.

    Attributes:
        delay_s: seconds per answer.
        fail: share of images that the engine rejects.
        empty: share of answers with an empty field.
        repeat: share of images for which all answers are equal.
        truncate: share of images for which the first answers are truncated.
        die: share of images that crash the engine's process.
        hang: share of images that hang the engine's process.
        die_on: images that crash the engine's process. The value contains digests of pixels (see
            `pixel_digest`), or prefixes of such digests, joined by ``+``.
        hang_on: images that hang the engine's process, in the same form as ``die_on``.
        start_s: seconds for the engine's start.
        journal: a file to which the engine appends one line for each answered request. The line is
            the digest of the pixels. The number of lines is the number of all model calls,
            including calls with answers that were lost.
        dim: length of a vector. The minimum is 4 for image vectors. None means 16 for text vectors
            and 8 for image vectors.
    """

    delay_s: float = 0.0
    fail: float = 0.0
    empty: float = 0.0
    repeat: float = 0.0
    truncate: float = 0.0
    die: float = 0.0
    hang: float = 0.0
    die_on: str = ""
    hang_on: str = ""
    start_s: float = 0.0
    journal: str = ""
    dim: int | None = None

    @classmethod
    def parse(cls, name: str) -> FakeOptions:
        """Parse the name of a fake model.

        Raises:
            ConfigError: an option is unknown, or the value of an option is invalid.
        """
        _, _, text = name.partition(":")
        try:
            pairs = dict(part.split("=", 1) for part in text.split(",") if part)
            texts = {key: value for key, value in pairs.items() if key in (*_PREFIXES, "journal")}
            numbers = {
                key: int(value) if key == "dim" else float(value)
                for key, value in pairs.items()
                if key not in texts
            }
            options = cls(**numbers, **texts)  # type: ignore[arg-type]
            if (
                not all(0 <= seconds < math.inf for seconds in (options.delay_s, options.start_s))
                or not all(0 <= getattr(options, share) <= 1 for share in _SHARES)
                or (options.dim is not None and options.dim < 1)
                or not all(_DIGESTS.fullmatch(texts[key]) for key in _PREFIXES if key in texts)
            ):
                raise ValueError("out of range")
            return options
        except (TypeError, ValueError) as error:
            known = ", ".join(cls.__dataclass_fields__)
            raise ConfigError(
                f"the name {name!r} of a fake model is not valid: write "
                f"{FAKE_MODEL_PREFIX}:OPTION=VALUE,… with these options: {known}. The values "
                "of die_on and hang_on are hexadecimal digits, the value of journal is a file, "
                "and all other values are numbers"
            ) from error


def pixel_digest(image: Image.Image) -> str:
    """Return the SHA-256 of an image's pixels, in hexadecimal.

    The answers of the fake engine depend on this digest.
    """
    return hashlib.sha256(image.tobytes()).hexdigest()
