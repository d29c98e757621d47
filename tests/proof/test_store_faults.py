"""A store that stumbles costs time, and changes nothing in the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.archives import upload
from tests.faulty_proxy import Faults, faulty_proxy
from tests.proof.kill_matrix import make_scene, rows_of, run_to_its_end
from tests.proof.test_kill_matrix import FAKES, archive

# Every eighth request of any kind meets one.
FAULTS = Faults(
    seed=6,
    delay=0.03,
    delay_s=0.5,
    reset=0.02,
    truncate=0.02,
    server_error=0.03,
    slow_down=0.03,
    methods=frozenset({"GET", "HEAD", "PUT", "POST"}),
)


@pytest.mark.proof
@pytest.mark.timeout(1800)
def test_a_stumbling_store_changes_nothing(
    tmp_path: Path, s3: Any, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = upload(s3, archive(tmp_path), "stumbling-archive", "aerial")
    s3.create_bucket(Bucket="stumbling-tables")
    # As a user has it: the everyday tests forbid the client its retries.
    monkeypatch.delenv("AWS_MAX_ATTEMPTS")
    scene = make_scene(tmp_path, source, FAKES, "s3://stumbling-tables/whole", whole_rows=True)
    with faulty_proxy(s3_endpoint, FAULTS) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        summary = run_to_its_end(scene, "s3://stumbling-tables/stumbled")
        met = dict(proxy.counts)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    assert summary["num_listed"] == len(scene.reference)
    assert proxy.num_faults >= 20, met
    assert rows_of("s3://stumbling-tables/stumbled", scene.compare) == scene.reference
