from __future__ import annotations

from pathlib import Path

import pytest
import typer

from skytext.cli import app
from skytext.cli.typed_name import COMMANDS, as_typed

MESSAGE = (
    "see: skytext failures T; skytext reads format 3; lib/skytext search; next: skytext index T"
)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / ".venv" / "bin" / "skytext"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_commands_are_named_as_they_were_called(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(program.parents[2])
    monkeypatch.setattr("sys.argv", [".venv/bin/skytext", "caption"])
    monkeypatch.setenv("PATH", "/missing")
    assert as_typed(MESSAGE) == (
        "see: .venv/bin/skytext failures T; skytext reads format 3; lib/skytext search; "
        "next: .venv/bin/skytext index T"
    )


@pytest.mark.parametrize("called", ["skytext", "-c", "/x/pytest"])
def test_a_program_on_the_path_keeps_its_name(
    program: Path, monkeypatch: pytest.MonkeyPatch, called: str
) -> None:
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setattr("sys.argv", [str(program) if called == "skytext" else called])
    assert as_typed(MESSAGE) == MESSAGE


def test_every_command_is_known() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert sorted(commands) == sorted(COMMANDS)
