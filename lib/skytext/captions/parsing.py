"""Parse and check the answers of a vision-language model (no Ray, no vLLM).

A *variant* is one description of an image. It has the fields ``{one_sentence, feature, caption}``
as in RSRT ("Beyond Pixels", arXiv 2512.10596). The regular expression from `guide_pattern` defines
the format of an answer. The engine compiles this expression to a token mask, which forces the model
to use the format. Therefore only truncated answers cannot be parsed.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

FIELDS = ("one_sentence", "feature", "caption")
FINISH_STOP = "stop"


@dataclass(frozen=True, slots=True)
class Variant:
    """One description of an image.

    Attributes:
        one_sentence: one sentence that first describes the whole scene, and then the parts of the
            scene.
        feature: the visible features, with their directions and positions.
        caption: a detailed paragraph.
        finish_reason: the finish reason that the engine reported. It is ``stop`` if the answer is
            complete.
    """

    one_sentence: str
    feature: str
    caption: str
    finish_reason: str = FINISH_STOP

    def folded(self) -> tuple[str, str, str]:
        """Return the three texts in lower case and with single spaces, for comparing variants."""
        return (_fold(self.one_sentence), _fold(self.feature), _fold(self.caption))


# The characters that a text in an answer may contain. Control characters are not allowed. JSON
# forbids control characters, but the JSON grammars of the engines permit them. Only a quote and a
# backslash may be escaped, because weak models would otherwise generate endless \\u sequences. The
# first character must not be a space, so that no text is blank.
_FIRST = r'[^"\\\x00-\x20\x7f]'
_CHAR = r'([^"\\\x00-\x1f\x7f]|\\["\\])'


# The pattern does not limit the length of a text. With {1,400} instead of *, xgrammar 0.2 needs 5
# ms instead of 3 us for each token. A forward pass of a small model takes less than 5 ms. The token
# limit truncates endless texts, and truncated answers are requested again.
_OBJECT = r"\{" + ", ".join(rf'"{name}": "{_FIRST}{_CHAR}*"' for name in FIELDS) + r"\}"


def guide_pattern(num_objects: int) -> str:
    """Return the regular expression that a complete answer must match.

    Args:
        num_objects: the number of variants. If it is 1, the answer must be one object. Otherwise
            the answer must be ``{"variants": [...]}`` with exactly this number of objects.
    """
    if num_objects == 1:
        return _OBJECT
    return r'\{"variants": \[' + ", ".join([_OBJECT] * num_objects) + r"\]\}"


def parse_answer(text: str, finish_reason: str | None) -> list[Variant]:
    """Return the variants in one answer.

    The answer is one object, or ``{"variants": [...]}``.

    Invalid objects are omitted, and the caller requests the missing variants again. An object is
    invalid if a field is missing, is empty, or is not a string. The result is empty if the answer
    is truncated (``finish_reason`` is not ``stop``) or is not JSON.
    """
    if finish_reason != FINISH_STOP:
        return []
    try:
        # strict=False accepts unescaped control characters inside a string.
        answer = json.loads(_strip_fence(text), strict=False)
    except (ValueError, RecursionError):
        return []
    objects = answer.get("variants", [answer]) if isinstance(answer, dict) else answer
    if not isinstance(objects, list):
        return []
    variants = (_variant(item, finish_reason) for item in objects)
    return [variant for variant in variants if variant is not None]


def _variant(item: Any, finish_reason: str) -> Variant | None:
    if not isinstance(item, dict):
        return None
    texts = [item.get(name) for name in FIELDS]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        return None
    one_sentence, feature, caption = (" ".join(str(text).split()) for text in texts)
    if any(_has_surrogate(text) for text in (one_sentence, feature, caption)):
        return None
    return Variant(one_sentence, feature, caption, finish_reason)


def merge_distinct(have: Sequence[Variant], new: Iterable[Variant], limit: int) -> list[Variant]:
    """Return at most ``limit`` variants from ``have`` and ``new``, without duplicates.

    Two variants are duplicates if they differ only in case and white space.
    """
    merged = list(have)
    seen = {variant.folded() for variant in merged}
    for variant in new:
        key = variant.folded()
        if len(merged) < limit and key not in seen:
            seen.add(key)
            merged.append(variant)
    return merged


def document_text(variant: Variant) -> str:
    """Return the text that is embedded for a variant. It has three labelled lines, as in RSRT."""
    return (
        f"ONE_SENTENCE: {variant.one_sentence}\n"
        f"FEATURE: {variant.feature}\n"
        f"CAPTION: {variant.caption}"
    )


DOCUMENT_LAYOUT_ID = "rsrt-lines-1"
"""Version of the text layout that `document_text` uses.

This version is part of the embedding fingerprint.
"""


def search_text(variants: Iterable[Variant]) -> str:
    """Return all variants as one text for the full-text index."""
    return composed(
        "\n\n".join(
            f"{variant.one_sentence}\n{variant.feature}\n{variant.caption}" for variant in variants
        )
    )


def composed(text: str) -> str:
    """Convert a text to the composed form of Unicode (NFC).

    In this form, a letter with an accent is one character. The full-text index removes the accent
    of such a character. The full-text index does not recognise an accent that is a separate
    character (NFD), which some file systems and keyboards produce.
    """
    return unicodedata.normalize("NFC", text)


def _has_surrogate(text: str) -> bool:
    """Return true if a text has surrogates such as ``\\ud800``, which UTF-8 cannot encode."""
    return any("\ud800" <= char <= "\udfff" for char in text)


def _fold(text: str) -> str:
    return " ".join(text.casefold().split())


def _strip_fence(text: str) -> str:
    """Remove a Markdown fence. Models often add a fence if no token mask enforces the format."""
    match = re.fullmatch(r"\s*```(?:json)?\s*(.*?)\s*```\s*", text, flags=re.DOTALL)
    return match.group(1) if match else text
