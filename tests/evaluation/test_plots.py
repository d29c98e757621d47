from __future__ import annotations

import io

import pytest
from PIL import Image

from skytext.errors import ConfigError
from skytext.evaluation.compared_setups import PAPER_RULE, Setup
from skytext.evaluation.evaluate import Embedders, evaluate_text_only
from skytext.evaluation.plots import check_plots, draw_plots, lines_by_variants
from skytext.evaluation.report import Evaluation
from skytext.models.fakes.embedders import FakeEmbedder
from tests.evaluation.test_ablations import ANNOTATIONS

EMBED = Embedders(FakeEmbedder().embed_queries, FakeEmbedder().embed_queries)


def evaluated(*counts: int) -> Evaluation:
    setups = [Setup(PAPER_RULE, num_variants=count) for count in counts]
    return evaluate_text_only(ANNOTATIONS_OF_FOUR, {None: EMBED}, setups)


ANNOTATIONS_OF_FOUR = type(ANNOTATIONS)(
    None,
    None,
    tuple(
        type(image)(image.name, (*image.captions, f"one {image.name}", f"big {image.name}"))
        for image in ANNOTATIONS.images
    ),
)


def test_curves_are_drawn() -> None:
    pytest.importorskip("matplotlib")
    drawn = draw_plots(evaluated(1, 2, 3))
    assert list(drawn) == ["recall_at_k.png", "recall_by_variants.png"]
    for png in drawn.values():
        with Image.open(io.BytesIO(png)) as image:
            image.load()
            colours = image.convert("RGB").getcolors(2**20)
        # A plot has axes, and lines of several colours on white.
        assert colours is not None
        assert len(colours) > 10


def test_one_number_of_variants_makes_no_line() -> None:
    pytest.importorskip("matplotlib")
    assert list(draw_plots(evaluated(2))) == ["recall_at_k.png"]


def test_lines_join_what_differs_in_the_number_of_variants_alone() -> None:
    rows = evaluated(3, 1).rows
    lines = lines_by_variants(rows)
    assert list(lines) == ["dense, max, repeats removed", "dense, max, repeats kept"]
    assert [point[0] for point in lines["dense, max, repeats removed"]] == [1, 3]


def test_a_missing_matplotlib_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skytext.evaluation.plots.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'skytext\[plots\]'"):
        check_plots()
