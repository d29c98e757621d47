from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from skytext.cli import run
from tests.cli.tables import make_described_table


@dataclass(frozen=True)
class Called:
    """The result of a call of the command line."""

    status: int
    out: str
    err: str


Skytext = Callable[..., Called]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo the environment variables that the command line sets for libraries."""
    with mock.patch.dict(os.environ):
        # With this width, no line of a help text or a message is wrapped.
        os.environ["COLUMNS"] = "200"
        yield


@pytest.fixture
def skytext(capsys: pytest.CaptureFixture[str]) -> Skytext:
    """Return a function that calls the command line in this process."""

    def call(*arguments: object) -> Called:
        capsys.readouterr()
        status = run([str(argument) for argument in arguments])
        return Called(status, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def shared_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a small table that tests only read."""
    folder = tmp_path_factory.mktemp("cli") / "table"
    make_described_table(folder)
    return folder
