from __future__ import annotations

from typing import Any

import pytest

from skytext.search import Searcher
from skytext.service.replicas.search_worker import SearchWorker
from skytext.service.served_tables import TableSet
from skytext.service.telemetry.metrics import LocalMeter
from skytext.table.location import TableLocation
from skytext.table.versions.promote_rollback import promote
from tests.service.app import make_config


def test_a_version_is_searched_in_every_mode_before_it_takes_requests(
    own: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[tuple[int, Any]] = []
    search = Searcher.search

    def noted(self: Searcher, asked: Any) -> Any:
        searched.append((self.table.version, asked.mode))
        return search(self, asked)

    monkeypatch.setattr(Searcher, "search", noted)
    worker = SearchWorker(TableSet.parse([own.uri]), make_config(own.uri), LocalMeter())
    live = worker.versions.live
    assert searched == [(live.table.version, mode) for mode in live.modes]
    searched.clear()
    promote(own, live.table.version - 1)
    assert worker.versions.refresh()
    assert searched == [(live.table.version - 1, mode) for mode in worker.versions.live.modes]
