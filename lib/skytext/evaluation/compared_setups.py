"""The setups that an evaluation compares. A setup is a ranking rule and a choice of image texts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from skytext.captions.parsing import Variant, document_text, search_text
from skytext.search.fusion import Fusion, Pooling

Mode = Literal["dense", "text", "hybrid"]
Granularity = Literal["sentence", "feature", "paragraph", "all"]
MODES: tuple[Mode, ...] = get_args(Mode)
GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)

TEXT_WEIGHT = 0.2
"""Weight of the text ranking if the fusion is ``floor``. The dense ranking has the weight 1."""
FLOORS = (-1.0, 0.0)
"""The lowest possible cosine and the lowest possible BM25 score."""

_FIELDS = {"sentence": "one_sentence", "feature": "feature", "paragraph": "caption"}


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule for the ranking of images.

    Attributes:
        mode: ``dense`` ranks by vectors, ``text`` ranks by words (BM25), and ``hybrid`` ranks by
            both.
        pooling: how the cosines of an image's variants are combined. Mode ``text`` does not use it.
        fusion: how the two rankings are combined. Only mode ``hybrid`` uses it.
        text_weight: weight of the text ranking. The dense ranking has the weight 1.
    """

    mode: Mode = "dense"
    pooling: Pooling = "max"
    fusion: Fusion = "floor"
    text_weight: float = TEXT_WEIGHT

    @property
    def uses_text(self) -> bool:
        """Whether the rule needs a full-text index."""
        return self.mode != "dense"

    def __str__(self) -> str:
        if self.mode == "text":
            return "text"
        if self.mode == "dense":
            return f"dense, {self.pooling}"
        weight = "" if self.fusion == "rrf" and self.text_weight == 1 else f" {self.text_weight:g}"
        return f"hybrid, {self.pooling}, {self.fusion}{weight}"


PAPER_RULE = Rule()
"""The rule of the TRSLLaVA paper (arXiv 2512.10596). The score is the cosine of the best variant.
"""
BEST_RULE = Rule("hybrid", "max+mean")
"""The rule with the best results on five sets of captions (see ``docs/background/ranking.md``)."""


@dataclass(frozen=True, slots=True)
class Setup:
    """One row of a comparison.

    Attributes:
        rule: the ranking.
        granularity: the part of a variant that is searched. ``all`` means the complete text. The
            description vectors of a table are computed from the same text.
        num_variants: number of variants of each image to use. The first variants of the image are
            used. None for all variants.
        embedder: name of an embedding model. None means the model that embedded the descriptions.
    """

    rule: Rule = field(default=PAPER_RULE)
    granularity: Granularity = "all"
    num_variants: int | None = None
    embedder: str | None = None

    def __str__(self) -> str:
        parts = [str(self.rule)]
        if self.granularity != "all":
            parts.append(self.granularity)
        if self.num_variants is not None:
            parts.append(f"{self.num_variants} variant{'' if self.num_variants == 1 else 's'}")
        if self.embedder is not None:
            parts.append(self.embedder)
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Return the setup as a JSON object."""
        rule = asdict(self.rule)
        if not self.rule.uses_text:
            rule |= {"fusion": None, "text_weight": None}
        elif self.rule.mode == "text":
            rule |= {"pooling": None, "fusion": None, "text_weight": None}
        return rule | {
            "granularity": self.granularity,
            "num_variants": self.num_variants,
            "embedder": self.embedder,
        }


def variant_text(variant: Variant, granularity: Granularity) -> str:
    """Return the text of a variant that is embedded."""
    if granularity == "all":
        return document_text(variant)
    text: str = getattr(variant, _FIELDS[granularity])
    return text


def words_of(variants: tuple[Variant, ...], granularity: Granularity) -> str:
    """Return the text of an image for the full-text index."""
    if granularity == "all":
        return search_text(variants)
    return "\n\n".join(variant_text(variant, granularity) for variant in variants)
