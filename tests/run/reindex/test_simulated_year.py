"""Test a few nights of each kind. `tests/proof/test_simulated_year.py` tests a whole year."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from skytext.table.versions import promote_rollback
from tests.faulty_proxy import FaultyProxy
from tests.run.jobs import ray, with_ray
from tests.run.reindex.changing_archive import ChangingArchive
from tests.run.reindex.simulated_year import Night, Year
from tests.run.reindex.version_reader import reading

pytestmark = [ray, with_ray, pytest.mark.timeout(900, method="thread")]
SEED = 1
NIGHTS = (
    Night(),
    Night(embedder=1, image_embedder=1, happens="column kill"),
    Night(prompt=1, embedder=1, image_embedder=1, happens="overlap"),
    Night(prompt=1, embedder=1, image_embedder=1, happens="broken listing"),
    Night(prompt=1, embedder=1, image_embedder=1, happens="faults"),
    # On this night, new images get vectors of the current image model. Later, all images get
    # vectors of the new image model.
    Night(prompt=1, embedder=1, image_embedder=2, max_images=6),
)


def test_a_short_year_ends_like_a_table_made_from_scratch(
    tmp_path: Path, s3: Any, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promote_rollback, "MAX_KEPT", 2)
    rng = random.Random(SEED)
    archive = ChangingArchive(s3, f"year-{SEED}", rng)
    archive.add(24)
    year = Year(tmp_path, archive, proxy, rng)
    year.run(NIGHTS[:1])
    year.watch()
    with reading(year.table, SEED) as reader:
        year.run(NIGHTS[1:], reader)
        year.run_until_idle(NIGHTS[-1])
    year.check_against_scratch(NIGHTS[-1])
    assert year.num_kills == 1
    # No rollback needs the column of the first embedding model, so this column was dropped.
    names = year.open().dataset.schema.names
    assert sum(name.startswith("text_vectors") for name in names) == 1
    assert reader.num_versions > len(NIGHTS) / 2
    assert reader.num_searches > len(NIGHTS)
