"""If a request to a store fails, the request is repeated. The work of a run is not repeated."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from skytext.table.commits.adoption import adopt
from skytext.table.commits.claim import hold
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.store.state_files import StateStore
from tests.faulty_proxy import Faults, faulty_proxy
from tests.table.rows import committer, good_rows, stage, text_column

FAULTS = Faults(
    seed=3,
    reset=0.05,
    truncate=0.05,
    server_error=0.05,
    slow_down=0.05,
    methods=frozenset({"GET", "HEAD", "PUT", "POST"}),
    max_in_a_row=4,
)


@pytest.mark.timeout(120)
def test_store_faults_neither_lose_nor_duplicate_rows(
    s3: Any, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.create_bucket(Bucket="stumbling")
    where = TableLocation.parse(f"s3://stumbling/{uuid.uuid4().hex}")
    with faulty_proxy(s3_endpoint, FAULTS) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        with hold(where, "run", "caption") as claim:
            for i in range(4):
                committer(where).commit([stage(where, good_rows(10 * i, 10))])
                claim.check()
            version = ImagesTable.open(where).version
            # No committed unit is adopted again.
            adopted = adopt(where, text_column(), version, claim.check, caption_fingerprint="")
            assert adopted.num_adopted == 0
        assert proxy.num_faults >= 5, dict(proxy.counts)
        table = ImagesTable.open(where)
        assert (table.num_rows(), len(table.double_rows())) == (40, 0)
        assert list(StateStore(where).list("staged")) == []


def test_create_is_idempotent_if_the_connection_breaks_before_the_response(
    s3: Any, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.create_bucket(Bucket="breaking")
    with faulty_proxy(s3_endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        state = StateStore(TableLocation.parse(f"s3://breaking/{uuid.uuid4().hex}"))
        proxy.faults = Faults(reset=1.0, methods=frozenset({"PUT"}), max_in_a_row=1)
        # As with a real connection, the header of the response may arrive or may be lost.
        assert all(state.create(f"tried/{i}", str(i).encode()) for i in range(40))
        assert proxy.num_faults == 40
        assert not state.create("tried/0", b"another")
