"""Run the whole application in this process, without Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from starlette.testclient import TestClient

from skytext.config.settings import Config, load_config
from skytext.service.access.api_keys import KeyStore
from skytext.service.access.authentication import Keyring
from skytext.service.backend import Backend, Describe
from skytext.service.canary_watch import CanaryWatch
from skytext.service.http.application import make_app
from skytext.service.replicas.deployment_calls import EmbedHandle, SearchHandle
from skytext.service.replicas.model_workers import EmbeddingWorker
from skytext.service.replicas.search_worker import SearchWorker
from skytext.service.served_tables import TableSet
from skytext.service.telemetry.metrics import LocalMeter

LOCAL = {"service.access.require_keys": False}


def make_config(table: Path | str, **settings: Any) -> Config:
    """Return the configuration with these settings of the service. In a name, two underscores
    replace a dot, as in ``limits__max_k=5``."""
    archive = str(Path(str(table)).parent / "archive")
    given = {f"service.{name.replace('__', '.')}": value for name, value in settings.items()}
    return load_config(None, {**LOCAL, "service.archive_roots": [archive], **given})


class Handle:
    """A replacement for the handle of a deployment. It calls a worker in this process."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker

    def __getattr__(self, name: str) -> Any:
        def remote(*arguments: Any) -> asyncio.Task[Any]:
            return asyncio.get_running_loop().create_task(getattr(self._worker, name)(*arguments))

        return SimpleNamespace(remote=remote)


class Application:
    """An application and its parts."""

    def __init__(
        self,
        table: Path | str,
        config: Config,
        describe: Describe | None = None,
        more: Sequence[Path | str] = (),
    ) -> None:
        self.meter = LocalMeter()
        tables = TableSet.parse([str(one) for one in (table, *more)])
        self.embedding = EmbeddingWorker(tables, config, self.meter)
        self.searches = SearchWorker(tables, config, self.meter)

        async def metrics() -> str:
            return self.meter.text()

        keyring = None
        if config.service.access.require_keys:
            store = KeyStore(tables.locations[0])
            keyring = Keyring(store, config.service.access.refresh_s)
        self.backend = Backend(
            EmbedHandle(Handle(self.embedding)),
            SearchHandle(Handle(self.searches)),
            describe,
            metrics,
            CanaryWatch(tables, config.service, self.meter),
        )
        self.asgi = make_app(tables, self.backend, config, self.meter, keyring)


@contextmanager
def client(
    table: Path | str,
    describe: Describe | None = None,
    more: Sequence[Path | str] = (),
    **settings: Any,
) -> Iterator[Any]:
    """Yield an HTTP client of an application. The application serves ``table`` and the tables in
    ``more``. The attribute ``application`` of the client is the `Application`."""
    application = Application(table, make_config(table, **settings), describe, more)
    with TestClient(
        application.asgi,
        base_url="http://localhost",
        client=("127.0.0.1", 50000),
        raise_server_exceptions=False,
    ) as opened:
        opened.application = application  # type: ignore[attr-defined]
        yield opened
