from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from skytext.models.fakes.embedders import FakeEmbedder
from skytext.service.replicas.model_workers import EmbeddingWorker
from skytext.service.served_tables import TableSet
from skytext.service.telemetry.metrics import LocalMeter
from tests.service.app import make_config


def test_queries_are_embedded_once_before_the_first_request_and_in_its_thread(
    served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Test that the worker embeds a text before the first request, because the first forward pass
    is slow. All texts must be embedded in the same thread, because the compute threads belong to
    this thread."""
    by: list[str] = []
    embed_queries = FakeEmbedder.embed_queries

    def noted(self: Any, texts: Any) -> Any:
        by.append(threading.current_thread().name)
        return embed_queries(self, texts)

    monkeypatch.setattr(FakeEmbedder, "embed_queries", noted)
    worker = EmbeddingWorker(TableSet.parse([str(served)]), make_config(served), LocalMeter())
    assert len(by) == 1
    asyncio.run(worker.embed_one(("a river", None)))
    assert by[1] == by[0]
