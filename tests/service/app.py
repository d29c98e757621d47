"""The whole application in this process, without Ray."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from skytext.config import Config, load_config
from skytext.service.access import Keyring
from skytext.service.api import make_app
from skytext.service.backend import Backend, Describe
from skytext.service.keys import KeyStore
from skytext.service.metrics import LocalMeter
from skytext.service.model_workers import EmbeddingWorker
from skytext.service.search_worker import SearchWorker
from skytext.table.location import TableLocation

LOCAL = {"service.access.require_keys": False}


def make_config(table: Path | str, **settings: Any) -> Config:
    """Settings; names with two underscores for each dot: ``limits__max_k=5``."""
    archive = str(Path(str(table)).parent / "archive")
    given = {f"service.{name.replace('__', '.')}": value for name, value in settings.items()}
    return load_config(None, {**LOCAL, "service.archive_roots": [archive], **given})


class Embed:
    """The embedding worker as the ingress asks it."""

    def __init__(self, worker: EmbeddingWorker) -> None:
        self._worker = worker

    async def query(self, text: str) -> Any:
        return (await self._worker.embed([text]))[0]

    async def documents(self, texts: Any) -> Any:
        return await self._worker.embed_documents(texts)


class Application:
    """An application with its parts."""

    def __init__(self, table: Path | str, config: Config, describe: Describe | None = None) -> None:
        self.meter = LocalMeter()
        self.embedding = EmbeddingWorker(str(table), config, self.meter)
        self.searches = SearchWorker(str(table), config, self.meter)

        async def metrics() -> str:
            return self.meter.text()

        keyring = None
        if config.service.access.require_keys:
            store = KeyStore(TableLocation.parse(str(table)))
            keyring = Keyring(store, config.service.access.refresh_s)
        self.backend = Backend(Embed(self.embedding), self.searches, describe, metrics)
        self.asgi = make_app(self.backend, config, self.meter, keyring)


@contextmanager
def client(table: Path | str, describe: Describe | None = None, **settings: Any) -> Iterator[Any]:
    """A client of an application; ``client.application`` is that."""
    application = Application(table, make_config(table, **settings), describe)
    with TestClient(
        application.asgi,
        base_url="http://localhost",
        client=("127.0.0.1", 50000),
        raise_server_exceptions=False,
    ) as opened:
        opened.application = application  # type: ignore[attr-defined]
        yield opened
