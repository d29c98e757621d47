"""A short year of nights; the long one is `tests/proof/test_simulated_year.py`."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from tests.faulty_proxy import FaultyProxy
from tests.run.jobs import ray, with_ray
from tests.run.reindex.changing_archive import ChangingArchive
from tests.run.reindex.simulated_year import Year, plan_nights
from tests.run.reindex.version_reader import reading

pytestmark = [ray, with_ray, pytest.mark.proof, pytest.mark.timeout(900, method="thread")]
NUM_NIGHTS = 12
HAPPENS = {"kill": 1, "overlap": 1, "faults": 1, "broken listing": 1}
SEED = int(os.environ.get("SKYTEXT_SEED", "1"))


def test_a_short_year_ends_like_a_table_made_from_scratch(
    tmp_path: Path, s3: Any, proxy: FaultyProxy
) -> None:
    luck = random.Random(SEED)
    archive = ChangingArchive(s3, f"year-{SEED}", luck)
    archive.add(24)
    year = Year(tmp_path, archive, proxy, luck)
    nights = plan_nights(NUM_NIGHTS, luck, happens=HAPPENS, num_budgets=2)
    year.run(nights[:1])
    with reading(year.table, SEED) as reader:
        year.run(nights[1:], reader)
        year.come_to_rest(nights[-1])
    year.check_against_scratch(nights[-1])
    assert reader.num_versions > NUM_NIGHTS / 2
    assert reader.num_searches > NUM_NIGHTS
