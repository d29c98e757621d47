"""Test the nightly runs of a year.

The table is correct, and the last month costs as much as the first month.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest

from skytext.table.versions.promote_rollback import MAX_KEPT
from tests.faulty_proxy import FaultyProxy
from tests.run.reindex.changing_archive import ChangingArchive
from tests.run.reindex.simulated_year import EMBEDDERS, Night, Year, plan_nights
from tests.run.reindex.version_reader import reading

NUM_NIGHTS = int(os.environ.get("SKYTEXT_NUM_NIGHTS", "365"))
SEED = int(os.environ.get("SKYTEXT_SEED", "1"))
FIRST_IMAGES = 60
MONTH = max(3, NUM_NIGHTS // 12)


def happenings() -> dict[str, int]:
    """Return the number of faults of each kind in a year.

    If there are fewer nights, each kind of fault occurs at least once.
    """
    in_365 = {"faults": 10, "overlap": 2, "broken listing": 1, "kill": 24, "kill any time": 12}
    found = {what: max(1, number * NUM_NIGHTS // 365) for what, number in in_365.items()}
    # A ``column kill`` occurs when an embedding model changes.
    return found | {"column kill": 2 * (len(EMBEDDERS) - 1)}


def median_sizes(sizes: list[tuple[int, int, int]]) -> tuple[float, float]:
    """Return the median number of files, and the median number of bytes per row."""
    files = statistics.median(num_files for num_files, _, _ in sizes)
    return files, statistics.median(num_bytes / num_rows for _, num_bytes, num_rows in sizes)


@pytest.mark.proof
@pytest.mark.ray
@pytest.mark.timeout(3600 * 8, method="thread")
@pytest.mark.usefixtures("local_ray")
def test_a_year_ends_like_a_table_made_from_scratch(
    tmp_path: Path, s3: Any, proxy: FaultyProxy, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(SEED)
    archive = ChangingArchive(s3, f"long-year-{SEED}", rng)
    archive.add(FIRST_IMAGES)
    year = Year(tmp_path, archive, proxy, rng)
    num_budgets = max(1, NUM_NIGHTS // 12)
    nights = plan_nights(NUM_NIGHTS, rng, happens=happenings(), num_budgets=num_budgets)
    year.run(nights[:1])
    year.watch()
    with reading(year.table, SEED) as reader:
        year.run(nights[1:], reader)
        year.run_until_idle(nights[-1])
        last_files, last_bytes = median_sizes(year.sizes[-MONTH:])
        last_s = statistics.median(reader.durations_s[-MONTH * 10 :])
    year.check_against_scratch(nights[-1])
    last = nights[-1]
    quiet = Night(last.prompt, last.embedder, last.image_embedder)
    # This is the first month of a new table of the same size. There are no faults on these nights.
    young = Year(year.folder, archive, proxy, rng, name="scratch")
    young.run([quiet] * MAX_KEPT)
    young.watch()
    with reading(young.table, SEED) as young_reader:
        young.run([quiet] * MONTH, young_reader)
    first_files, first_bytes = median_sizes(young.sizes[-MONTH:])
    first_s = statistics.median(young_reader.durations_s)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{NUM_NIGHTS} nights, {year.num_kills} kills, {reader.num_searches} searches of "
            f"{reader.num_versions} versions; files {last_files:.0f} / {first_files:.0f}, bytes a "
            f"row {last_bytes:.0f} / {first_bytes:.0f}, search {last_s * 1e3:.1f} / "
            f"{first_s * 1e3:.1f} ms\n"
        )
    # Columns that no rollback needs are dropped.
    assert len(year.open().columns) == 2 or NUM_NIGHTS < 8 * MAX_KEPT
    assert last_files <= 1.2 * first_files
    assert last_bytes <= 1.2 * first_bytes
    assert last_s <= 1.2 * first_s
