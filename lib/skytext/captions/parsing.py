"""Parse and check what a vision-language model wrote (no Ray, no vLLM).

A *variant* is one of an image's descriptions: ``{one_sentence, feature, caption}`` as in RSRT
("Beyond Pixels", arXiv 2512.10596). The generation is held to that form by a regular
expression (`guide_pattern`) that the engine compiles to a token mask, so that parsing fails
only where an answer was cut off.
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
        one_sentence: the scene in one sentence, from the whole to its parts.
        feature: the visible features with direction and position.
        caption: a detailed paragraph.
        finish_reason: why the engine stopped; ``stop`` where the answer is complete.
    """

    one_sentence: str
    feature: str
    caption: str
    finish_reason: str = FINISH_STOP

    def folded(self) -> tuple[str, str, str]:
        """Return the three texts with case and white space folded: equal means duplicate."""
        return (_fold(self.one_sentence), _fold(self.feature), _fold(self.caption))


# A JSON string's characters without control characters, which the engines' own JSON grammars
# let through and JSON forbids, and without escapes other than those of quote and backslash:
# a weak model otherwise wanders in \\u sequences. The first character is no space, so that an
# empty-looking text cannot be written.
_FIRST = r'[^"\\\x00-\x20\x7f]'
_CHAR = r'([^"\\\x00-\x1f\x7f]|\\["\\])'


# No upper bounds: {1,400} instead of * makes xgrammar 0.2 spend 5 ms instead of 3 us a token, more
# than a small model's forward pass. A runaway is cut by the token limit and asked again.
_OBJECT = r"\{" + ", ".join(rf'"{name}": "{_FIRST}{_CHAR}*"' for name in FIELDS) + r"\}"


def guide_pattern(num_objects: int) -> str:
    """Return the regular expression that an answer matches as a whole.

    Args:
        num_objects: 1 for a bare object; more for ``{"variants": [...]}`` with exactly that many.
    """
    if num_objects == 1:
        return _OBJECT
    return r'\{"variants": \[' + ", ".join([_OBJECT] * num_objects) + r"\]\}"


def parse_answer(text: str, finish_reason: str | None) -> list[Variant]:
    """Read the variants of one answer: a bare object or ``{"variants": [...]}``.

    What cannot be used is left out, so the caller asks again for what is missing: an answer that
    was cut off (``finish_reason`` other than ``stop``) or does not parse gives no variants; an
    object with a field missing, empty or not a text is dropped.
    """
    if finish_reason != FINISH_STOP:
        return []
    try:
        # strict=False: a raw control character inside a string is a blemish, not a failure.
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
    """Return ``have`` followed by those of ``new`` that repeat none before, at most ``limit``."""
    merged = list(have)
    seen = {variant.folded() for variant in merged}
    for variant in new:
        key = variant.folded()
        if len(merged) < limit and key not in seen:
            seen.add(key)
            merged.append(variant)
    return merged


def document_text(variant: Variant) -> str:
    """Lay a variant out as the text that is embedded, as RSRT does: three labelled lines."""
    return (
        f"ONE_SENTENCE: {variant.one_sentence}\n"
        f"FEATURE: {variant.feature}\n"
        f"CAPTION: {variant.caption}"
    )


DOCUMENT_LAYOUT_ID = "rsrt-lines-1"
"""Names the layout of `document_text`; part of the embedding fingerprint."""


def search_text(variants: Iterable[Variant]) -> str:
    """Return all variants as one text for the full-text index."""
    return composed(
        "\n\n".join(
            f"{variant.one_sentence}\n{variant.feature}\n{variant.caption}" for variant in variants
        )
    )


def composed(text: str) -> str:
    """Return a text in Unicode's composed form (NFC): an accent is part of its letter.

    The full-text index removes the accents of such letters. It does not know an accent that is a
    separate character (NFD, which some file systems and keyboards produce).
    """
    return unicodedata.normalize("NFC", text)


def _has_surrogate(text: str) -> bool:
    """Return whether ``\\ud800`` and the like are in a text, which UTF-8 cannot hold."""
    return any("\ud800" <= char <= "\udfff" for char in text)


def _fold(text: str) -> str:
    return " ".join(text.casefold().split())


def _strip_fence(text: str) -> str:
    """Take a Markdown fence off: models that run without the guide like to add one."""
    match = re.fullmatch(r"\s*```(?:json)?\s*(.*?)\s*```\s*", text, flags=re.DOTALL)
    return match.group(1) if match else text
