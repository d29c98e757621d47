"""Test a full disk and a read-only disk. A command prints one line with the path and the reason,
and leaves no incomplete file."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Skytext

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")
COMMAND = [sys.executable, "-c", "from skytext.cli import main; main()"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    made = subprocess.run(["mount", *options], check=False, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"this root may not mount: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Fill a file system. Return the file that fills the file system."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["search", "{}", "river", "--json"], ["status", "{}"]])
def test_a_full_stdout_is_one_line(shared_table: Path, words: list[str], unbuffered: str) -> None:
    arguments = [word.format(shared_table) for word in words]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*COMMAND, *arguments],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        )
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines() == [
        "skytext: No space left on device: stdout or the temporary folder "
        f"{os.environ.get('TMPDIR', '/tmp')}: free some space, and then run the same command again"
    ]


def test_a_closed_pipe_ends_the_command_silently(shared_table: Path) -> None:
    for words in (["config", "reference"], ["export", shared_table, "--format", "parquet"]):
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "wb") as out:
            done = subprocess.run(
                [*COMMAND, *words], check=False, stdout=out, stderr=subprocess.PIPE
            )
        assert done.stderr == b""
        assert done.returncode == 1


def test_a_deleted_working_directory_is_a_wrong_call(
    skytext: Skytext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for words in (["status", "table"], ["doctor"], ["demo"]):
        called = skytext(*words)
        assert called.status == 2
        assert called.err.splitlines() == [
            "skytext: the working directory was deleted. Change to another folder and run the "
            "same command again"
        ]


@ROOT_ONLY
def test_an_index_on_a_full_disk_fails_in_a_line_and_succeeds_when_space_is_freed(
    skytext: Skytext, shared_table: Path, small_disk: Path
) -> None:
    table = shutil.copytree(shared_table, small_disk / "table")
    filler = fill(small_disk)
    called = skytext("index", table)
    assert called.status == 1
    [line] = called.err.splitlines()
    assert line.startswith(f"skytext: No space left on device: {table} or the temporary folder ")
    assert line.endswith(": free some space, and then run the same command again")
    assert skytext("search", table, "a river", "--json").status == 0
    filler.unlink()
    assert skytext("index", table).status == 0


@ROOT_ONLY
@pytest.mark.parametrize("format", ["rsrt-jsonl", "geojson", "webdataset", "parquet"])
def test_an_export_to_a_full_disk_leaves_nothing(
    skytext: Skytext, shared_table: Path, small_disk: Path, format: str
) -> None:
    filler = fill(small_disk)
    path = small_disk / "out"
    called = skytext("export", shared_table, "--format", format, "--output", path)
    assert called.status == 1
    assert called.err.splitlines() == [
        f"skytext: No space left on device: {path}: free some space, and then run the same "
        "command again"
    ]
    assert list(small_disk.iterdir()) == [filler]


@ROOT_ONLY
def test_a_key_and_a_promotion_on_a_full_disk_leave_no_file(
    skytext: Skytext, shared_table: Path, small_disk: Path
) -> None:
    table = shutil.copytree(shared_table, small_disk / "table")
    # Make the folders for promotions and keys before the disk is full. Later calls need to write
    # only files.
    assert skytext("promote", table, "1").status == 0
    assert skytext("keys", "add", table, "somebody").status == 0
    fill(small_disk)
    before = sorted(table.rglob("*"))
    for words in (["keys", "add", table, "another"], ["promote", table, "2"]):
        called = skytext(*words)
        assert called.status == 1
        [line] = called.err.splitlines()
        assert f"No space left on device: {table}/state/" in line
        assert "os error" not in line
    assert sorted(table.rglob("*")) == before


@ROOT_ONLY
def test_a_read_only_table_is_searched_and_not_changed(
    skytext: Skytext, shared_table: Path, small_disk: Path
) -> None:
    table = shutil.copytree(shared_table, small_disk / "table")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert skytext("search", table, "a river", "--json").status == 0
    for words in (["index", table], ["keys", "add", table, "somebody"]):
        called = skytext(*words)
        assert called.status == 1
        [line] = called.err.splitlines()
        assert f"Read-only file system: {table}" in line
        assert line.endswith("run the same command again")


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_table_without_write_permission_is_not_changed(
    skytext: Skytext, shared_table: Path, tmp_path: Path
) -> None:
    table = shutil.copytree(shared_table, tmp_path / "table")
    folders = [path for path in (table, *table.rglob("*")) if path.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    try:
        called = skytext("index", table)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert called.status == 1
    [line] = called.err.splitlines()
    assert f"Permission denied: {table}/" in line
