from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from skytext.models.fakes.embedders import FakeEmbedder
from skytext.search.request import SearchRequest
from skytext.service.replicas import served_models
from skytext.service.replicas.model_workers import EmbeddingWorker
from skytext.service.replicas.search_worker import SearchWorker
from skytext.service.replicas.served_versions import Follower
from skytext.service.search_query import Embedded, OtherModel, Query
from skytext.service.served_tables import TableSet
from skytext.service.telemetry.metrics import LocalMeter
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.versions.promote_rollback import promote
from tests.service.app import client, make_config
from tests.service.tables import embed_again

ASKED = {"text": "a river", "k": 9}
OUT_OF_MEMORY = "CUDA out of memory.\nTried to allocate 20 MiB"


def before_loading(monkeypatch: pytest.MonkeyPatch, dim: int, do: Callable[[], None]) -> None:
    """Call ``do`` before each load of the model whose vectors have ``dim`` numbers."""
    make = served_models.make_table_embedder

    def made(table: str, column: Any, config: Any) -> Any:
        if column.dim == dim:
            do()
        return make(table, column, config)

    monkeypatch.setattr(served_models, "make_table_embedder", made)


def embedding(where: TableLocation, **settings: Any) -> EmbeddingWorker:
    config = make_config(where.uri, **settings)
    return EmbeddingWorker(TableSet.parse([where.uri]), config, LocalMeter())


def failed_swaps(meter: LocalMeter) -> float:
    lines = [line for line in meter.text().splitlines() if 'swaps_total{ok="false"}' in line]
    return float(lines[0].split()[-1]) if lines else 0.0


def test_the_version_before_answers_without_a_wait_until_the_new_model_is_loaded(
    own: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = promote(own).version, embed_again(own, "fake:dim=24").version
    loading, go_on = threading.Event(), threading.Event()

    def slowly() -> None:
        loading.set()
        time.sleep(2)
        assert go_on.wait(60)

    before_loading(monkeypatch, 24, slowly)
    with client(own.uri, access__key_rate=None) as http, ThreadPoolExecutor(1) as pool:
        application = http.application
        expected = http.post("/v1/search", json=ASKED).json()["hits"]
        promote(own, last)
        assert application.searches.versions.refresh()
        done = pool.submit(application.embedding.models.refresh)
        try:
            assert loading.wait(30)
            for _ in range(10):
                found = http.post("/v1/search", json=ASKED)
                assert found.status_code == 200, found.text
                assert found.json()["table_version"] == first
                assert found.json()["hits"] == expected
            assert not done.done()
            # A search that names the new version gets a 503 with a clear message.
            named = http.post("/v1/search", json={**ASKED, "version": last})
            assert (named.status_code, named.headers["Retry-After"]) == (503, "5")
            assert named.json()["type"] == "urn:skytext:problem:other-model"
            assert own.uri not in named.text
        finally:
            go_on.set()
        done.result(60)
        for body in (ASKED, {**ASKED, "version": last}):
            assert http.post("/v1/search", json=body).json()["table_version"] == last


def test_no_search_waits_while_a_named_version_loads_its_model(
    own: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(own)
    last = embed_again(own, "fake:dim=24").version
    go_on = threading.Event()
    before_loading(monkeypatch, 24, lambda: assert_set(go_on))
    worker = embedding(own)

    async def ask() -> None:
        named = asyncio.create_task(worker.embed_one(("ships", (last,))))
        await asyncio.sleep(0)
        async with asyncio.timeout(20):
            assert isinstance(await worker.embed_one(("a river", None)), Embedded)
        assert not named.done()
        refused: Any = await named
        assert str(refused.error).startswith("503 other-model")
        go_on.set()
        while not isinstance(found := await worker.embed_one(("ships", (last,))), Embedded):
            await asyncio.sleep(0.05)
        assert found.vector.size == 24

    asyncio.run(asyncio.wait_for(ask(), 60))


def assert_set(event: threading.Event) -> None:
    assert event.wait(60)


def test_a_model_that_cannot_be_loaded_is_logged_once_and_tried_again(
    own: TableLocation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, last = promote(own).version, embed_again(own, "fake:dim=24").version
    is_broken, tries = True, 0

    def refuse() -> None:
        nonlocal tries
        tries += 1
        if is_broken:
            raise RuntimeError(OUT_OF_MEMORY)

    before_loading(monkeypatch, 24, refuse)
    with client(own.uri, access__key_rate=None) as http, caplog.at_level(logging.WARNING):
        application = http.application
        models = application.embedding.models
        promote(own, last)
        assert application.searches.versions.refresh()
        follower = Follower({"cannot load": models.refresh}, 0.01)
        follower.start()
        while tries < 3:
            assert follower.is_alive()
            found = http.post("/v1/search", json=ASKED)
            assert (found.status_code, found.json()["table_version"]) == (200, first), found.text
        named = http.post("/v1/search", json={**ASKED, "version": last})
        assert named.status_code == 503
        assert "CUDA" not in named.text
        assert own.uri not in named.text
        assert failed_swaps(application.meter) >= 2
        said = [one for one in caplog.records if one.getMessage() == "cannot load"]
        assert len(said) == 1
        assert "CUDA out of memory.): free memory" in vars(said[0])["error"]
        is_broken = False
        wait_until(lambda: models.live.versions == (last,))
        assert http.post("/v1/search", json=ASKED).json()["table_version"] == last
        follower.stop()
        follower.join(30)


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_text_that_one_model_cannot_embed_does_not_fail_those_of_another(
    own: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(own)
    last = embed_again(own, "fake:dim=24").version
    worker = embedding(own)
    good, broken = worker.models.live, worker.models.of((last,))
    embed_queries = FakeEmbedder.embed_queries

    def fail(self: FakeEmbedder, texts: Any) -> Any:
        if self.dim == 24:
            raise RuntimeError("broken")
        return embed_queries(self, texts)

    monkeypatch.setattr(FakeEmbedder, "embed_queries", fail)
    found = asyncio.run(worker.embed([("ships", broken), ("ships", good), ("a river", good)]))
    assert [type(one) for one in found] == [RuntimeError, Embedded, Embedded]
    with pytest.raises(RuntimeError, match="broken"):
        asyncio.run(worker.embed_one(("ships", (last,))))


def test_a_model_requested_before_its_promotion_is_loaded_once(
    own: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = promote(own).version, embed_again(own, "fake:dim=24").version
    loads: list[int] = []
    before_loading(monkeypatch, 24, lambda: loads.append(24))
    models = embedding(own, held_versions=1).models
    keep, locked = models._keep, []

    def noted(of: Any) -> None:
        locked.append(models._loading.locked())
        keep(of)

    monkeypatch.setattr(models, "_keep", noted)
    models.of((last,))
    assert models.live.versions == (first,)
    promote(own, last)
    models.refresh()
    assert models.live.versions == (last,)
    assert loads == [24]
    assert models.kept((first,)) is not None
    assert all(locked)


def query(table: ImagesTable, text: str = "a river") -> Query:
    """Return a search whose text was embedded with the model of ``table``."""
    column = table.text_column
    vector = np.full(column.dim, column.dim**-0.5, np.float32)
    return Query(SearchRequest(text=text), {text: Embedded(column.fingerprint, vector)}, {})


def answered(worker: SearchWorker, *queries: Query) -> list[Any]:
    found: Any = asyncio.run(worker.search(queries))
    return [one if isinstance(one, OtherModel) else one["table_version"] for one in found]


def test_searches_of_one_batch_by_two_models_go_to_the_version_that_all_replicas_can_embed_for(
    own: TableLocation,
) -> None:
    first, last = promote(own).version, embed_again(own, "fake:dim=24").version
    worker = SearchWorker(TableSet.parse([own.uri]), make_config(own.uri), LocalMeter())
    old, new = (query(ImagesTable.open(own, version)) for version in (first, last))
    assert answered(worker, old, new) == [first, OtherModel((first,))]
    promote(own, last)
    assert worker.versions.refresh()
    assert answered(worker, old) == [first]
    assert answered(worker, new) == [last]
    assert answered(worker, new, old) == [OtherModel((first,)), first]


def test_a_version_is_held_as_long_as_searches_are_embedded_by_its_model(
    own: TableLocation,
) -> None:
    first = promote(own).version
    config = make_config(own.uri, held_versions=1)
    worker = SearchWorker(TableSet.parse([own.uri]), config, LocalMeter())
    old = query(ImagesTable.open(own, first))

    def promote_another(dim: int) -> int:
        embed_again(own, f"fake:dim={dim}")
        version = promote(own).version
        assert worker.versions.refresh()
        return version

    promote_another(24)
    assert answered(worker, old) == [first]
    promote_another(12)
    assert worker.versions.held((first,)) is not None
    # No search used the first version after the last promotion.
    latest = promote_another(8)
    assert worker.versions.held((first,)) is None
    assert answered(worker, old) == [OtherModel((latest,))]
