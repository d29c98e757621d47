"""Test the output of the commands with any terminal, any encoding and any names in an archive."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from skytext.cli import run
from skytext.cli.output import JobBar
from skytext.run.progress import Progress
from tests.cli.conftest import Skytext
from tests.cli.tables import described_row, fake_column
from tests.table.rows import committer, failed_row, location, stage

NAME, SENTENCE = "アヤ é\n2.jpg", "川 a \x1b[2J river"


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a table whose names and texts contain letters of several scripts, and control
    characters."""
    where = location(tmp_path_factory.mktemp("odd") / "table")
    rows = [described_row(NAME, [SENTENCE]), failed_row("\x1b]0;title\x07.jpg")]
    committer(where, fake_column()).commit([stage(where, rows)])
    return Path(where.uri)


def test_text_that_the_encoding_lacks_is_escaped(
    odd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    latin = io.TextIOWrapper(written, "latin-1", write_through=True)
    monkeypatch.setattr(sys, "stdout", latin)
    call = ["search", str(odd), "river"]
    assert run(call) == 0
    assert r"#\u30a2\u30e4 é\x0a2.jpg" in written.getvalue().decode("latin-1")
    written.seek(written.truncate(0))
    assert run([*call, "--json"]) == 0
    (hit,) = json.loads(written.getvalue().decode("latin-1"))["hits"]
    assert hit["uri"].endswith(f"#{NAME}")
    assert hit["one_sentence"] == SENTENCE


@pytest.mark.parametrize("command", ["search", "failures"])
def test_no_name_and_no_text_steers_the_terminal(skytext: Skytext, odd: Path, command: str) -> None:
    more = ["river"] if command == "search" else []
    called = skytext(command, odd, *more)
    assert called.status == 0, called.err
    assert called.out.replace("\n", "").isprintable()
    shown = r"\x1b]0;title\x07.jpg" if command == "failures" else r"川 a \x1b[2J river"
    assert shown in called.out


@pytest.mark.parametrize("columns", ["0", "", "wide"])
def test_a_terminal_without_a_width_gets_its_answer(
    skytext: Skytext, odd: Path, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    from skytext.cli.output import _Console

    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr("skytext.cli.output.answers", _Console(highlight=False))
    assert "1 ok" in skytext("status", odd).out


def test_images_of_units_in_work_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    from skytext.cli import output

    terminal = output._Console(file=io.StringIO(), force_terminal=True, width=100)
    monkeypatch.setattr(output, "notes", terminal)
    progress = Progress(total_bytes=100, bytes_done=50, num_ok=4)
    with output.JobBar() as bar:
        assert "starting the engine" in shown_by(bar)
        bar.on_described(6)
        assert "captioning" in shown_by(bar)
        bar.on_progress(progress)
        assert "50%" in shown_by(bar)
        assert "6 images" in shown_by(bar)
        progress.num_ok = 8
        bar.on_progress(progress)
        assert "8 images" in shown_by(bar)
        # The next run of a night starts with this progress.
        bar.on_progress(Progress(total_bytes=100, num_ok=2))
        assert "2 images" in shown_by(bar)


def shown_by(bar: JobBar) -> str:
    page = Console(file=io.StringIO(), width=100)
    page.print(bar)
    return page.file.getvalue()  # type: ignore[attr-defined]
