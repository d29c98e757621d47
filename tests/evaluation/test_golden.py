from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytext.captions.parsing import Variant
from skytext.errors import CallError
from skytext.evaluation.compared_setups import PAPER_RULE, Setup
from skytext.evaluation.evaluate import Embedders, evaluate_queries
from skytext.evaluation.gallery_texts import Described
from skytext.evaluation.golden import Golden, judge, read_golden

GOOD = """
thresholds: {R@1: 50, mean_recall: 80}
queries:
  - {query: ships in a harbour, images: [x/harbour.jpg]}
  - {query: a river, images: [river.jpg, other/stream.jpg], within: 2}
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_both_formats_give_the_same_queries(tmp_path: Path) -> None:
    read = read_golden(write(tmp_path / "g.yaml", GOOD))
    assert read.thresholds == {"R@1": 50, "mean_recall": 80}
    assert [query.images for query in read.to_queries()] == [
        ("harbour.jpg",),
        ("river.jpg", "stream.jpg"),
    ]
    lines = (
        '{"query": "ships in a harbour", "images": ["x/harbour.jpg"]}\n\n'
        '{"query": "a river", "images": ["river.jpg", "other/stream.jpg"], "within": 2}\n'
    )
    path = write(tmp_path / "g.jsonl", lines)
    assert read_golden(path, {"R@1": 50, "mean_recall": 80}) == read
    assert read_golden(tmp_path / "g.yaml", {"R@1": 70}).thresholds["R@1"] == 70


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("queries: [", "neither YAML nor JSON"),
        ("- a", "valid dictionary"),
        ("queries: []", "queries: Tuple should have at least 1 item"),
        ("queries: [{query: a, images: [x.jpg]}]", "nothing to check"),
        ("queries: [{query: ' ', images: [x.jpg], within: 1}]", "queries.0.query"),
        ("queries: [{query: a, images: [], within: 1}]", "queries.0.images"),
        ("queries: [{query: a, images: [x.jpg], within: 0}]", "queries.0.within"),
        ("queries: [{query: a, images: [x.jpg], wihtin: 1}]", "Extra inputs"),
        ("{thresholds: {R@2: 5}, queries: [{query: a, images: [x.jpg]}]}", "thresholds.R@2"),
        ("{thresholds: [R@1], queries: [{query: a, images: [x.jpg]}]}", "thresholds: .*dictionary"),
        ("{thresholds: 90, queries: [{query: a, images: [x.jpg]}]}", "thresholds: .*dictionary"),
        ("[" * 3000, "nested too deeply"),
        (r'queries: [{query: "\ud800", images: [x.jpg], within: 1}]', "queries.0.query"),
        ("{thresholds: {R@1: 101}, queries: [{query: a, images: [x.jpg]}]}", "thresholds.R@1"),
        (
            "queries: [{query: a, images: [x.jpg], within: 1}, {query: a, images: [y.jpg]}]",
            "contains the query 'a' twice",
        ),
    ],
)
def test_wrong_files_are_reported(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CallError, match=message):
        read_golden(write(tmp_path / "g.yaml", text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1 is not JSON"),
        ("[" * 100_000, "line 1 is nested too deeply"),
        (r'{"query": "\ud800", "images": ["a.jpg"], "within": 1}', "not valid Unicode"),
    ],
)
def test_wrong_lines_are_reported(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CallError, match=message):
        read_golden(write(tmp_path / "g.jsonl", text))


@pytest.mark.parametrize("name", ["g.jsonl", "g.json"])
def test_a_query_may_hold_any_character(tmp_path: Path, name: str) -> None:
    query = '{"query": "a\u2028b\\ud83d\\ude00", "images": ["a.jpg"], "within": 5}'
    text = query if name == "g.jsonl" else f'{{"queries":\n\t[{query}]}}'
    [read] = read_golden(write(tmp_path / name, text)).to_queries()
    assert read.text == "a\u2028b😀"


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CallError, match="there is no file"):
        read_golden(tmp_path / "missing.yaml")


def measured(order: dict[str, list[float]], golden: Any, **options: Any) -> Any:
    """Judge images. ``order`` contains the scores of the images for each query."""
    images = [Described(f"{i}.jpg", (Variant(f"{i}", "x", "y"),), None) for i in range(4)]

    def documents(texts: Any) -> Any:
        return np.eye(4, dtype=np.float32)

    def queries(texts: Any) -> Any:
        return np.array([order[text] for text in texts], dtype=np.float32)

    models = {None: Embedders(documents, queries)}
    setups = [Setup(PAPER_RULE)]
    found = evaluate_queries(images, golden.to_queries(), models, setups, **options)
    return judge(golden, found.rows[0], found.queries)


def test_all_requirements_are_checked(tmp_path: Path) -> None:
    text = """
    thresholds: {R@1: 50, R@5: 100}
    queries:
      - {query: first, images: [0.jpg], within: 1}
      - {query: third, images: [0.jpg], within: 2}
    """
    golden = read_golden(write(tmp_path / "g.yaml", text))
    order = {"first": [0.9, 0.1, 0.2, 0.3], "third": [0.3, 0.9, 0.8, 0.1]}
    verdict = measured(order, golden)
    assert not verdict.passed
    assert {check.name: (check.found, check.passed) for check in verdict.checks} == {
        "R@1": (50, True),
        "R@5": (100, True),
        "first": (1, True),
        "third": (3, False),
    }
    assert verdict.lines() == [
        "FAILED third: 3, wanted 2",
        "golden: 3 of 4 checks passed",
    ]
    better = measured(order | {"third": [0.85, 0.9, 0.8, 0.1]}, golden)
    assert better.passed
    assert better.to_json()["passed"] is True


def test_an_image_that_only_a_sort_puts_first_has_not_passed(tmp_path: Path) -> None:
    text = "queries: [{query: tied, images: [3.jpg], within: 1}]"
    golden = read_golden(write(tmp_path / "g.yaml", text))
    assert not measured({"tied": [0.1, 0.1, 0.9, 0.9]}, golden).passed
    assert measured({"tied": [0.1, 0.1, 0.8, 0.9]}, golden).passed


@pytest.mark.parametrize(("num_hits", "num_queries"), [(57, 100), (29, 50), (7, 10), (556, 1000)])
def test_a_recall_equal_to_the_limit_passes(num_hits: int, num_queries: int) -> None:
    order = {f"{i}": [0.9, 0.1, 0.2, 0.3] for i in range(num_queries)}
    queries = [
        {"query": text, "images": ["0.jpg" if i < num_hits else "1.jpg"]}
        for i, text in enumerate(order)
    ]
    hits = 100 * num_hits / num_queries
    for wanted in (hits, hits + 0.01):
        golden = Golden.model_validate({"queries": queries, "thresholds": {"R@1": wanted}})
        assert measured(order, golden).passed == (wanted == hits)


def test_a_query_whose_images_are_missing_has_no_place(tmp_path: Path) -> None:
    text = """
    queries:
      - {query: there, images: [0.jpg], within: 1}
      - {query: gone, images: [missing.jpg], within: 3}
    """
    golden = read_golden(write(tmp_path / "g.yaml", text))
    verdict = measured({"there": [0.9, 0.1, 0.2, 0.3]}, golden, allow_missing=True)
    assert verdict.lines()[0] == "FAILED gone: its images are missing, wanted 3"
    result = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
    assert result["checks"] == [
        {"name": "there", "wanted": 1, "found": 1, "passed": True},
        {"name": "gone", "wanted": 3, "found": None, "passed": False},
    ]
