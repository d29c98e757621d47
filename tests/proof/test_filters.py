"""Test 10,000 searches with four filters on 100,000 images.

No search may return fewer hits than possible, and no recall may be below 0.99.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.search.report import markdown
from bench.search.sections import Bench, filters

pytestmark = pytest.mark.proof


def test_filters_are_never_short(tmp_path: Path) -> None:
    found = filters(Bench(tmp_path, num_queries=2_500))
    sys.stdout.write(markdown({"filters": found}))
    assert [one["num_matches"] for one in found.values()] == [1, 1_000, 50_000, 99_000]
    for one in found.values():
        assert one["num_queries"] == 2_500
        assert one["num_short"] == 0
        assert one["recall_at_10"] >= 0.99
    # The first two filters match few images, which are all scored with and without the index.
    assert [one["num_different"] for one in found.values()][:2] == [0, 0]
