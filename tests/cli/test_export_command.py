"""Test that `skytext export` writes complete files or no files. Also test streams and errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from skytext.cli.atomic_file import open_atomically, write_file
from skytext.errors import CallError
from tests.cli.conftest import Skytext
from tests.cli.tables import DESCRIBED


def test_a_failed_write_keeps_the_existing_file(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    write_file(path, b"before")

    def write_half() -> None:
        with open_atomically(path) as out:
            out.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
    with open_atomically(path) as out:
        out.write(b"after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask
    with (
        pytest.raises(CallError, match="already exists: use --force"),
        open_atomically(path, replace=False),
    ):
        pass
    with pytest.raises(CallError, match="cannot write"):
        write_file(tmp_path / "missing" / "x", b"one")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CallError, match="it is a folder"):
        write_file(tmp_path / "folder", b"one")


@pytest.mark.parametrize("format", ["rsrt-jsonl", "webdataset", "geojson", "parquet"])
def test_a_file_is_not_overwritten_without_force(
    skytext: Skytext, shared_table: Path, tmp_path: Path, format: str
) -> None:
    out = tmp_path / "out"
    call = ["export", shared_table, "--format", format, "--output", out]
    called = skytext(*call)
    assert called.status == 0, called.err
    assert "4 images of table version" in called.err
    first = out.read_bytes()
    called = skytext(*call)
    assert called.status == 2
    assert "use --force to overwrite it" in called.err
    out.write_bytes(b"something else")
    assert skytext(*call, "--force").status == 0
    assert out.read_bytes() == first
    called = skytext(*call, "--force", "--json")
    assert called.status == 0, called.err
    summary = json.loads(called.out)
    assert summary.pop("table_version") > 1
    assert summary == {"num_images": 4, "format": format, "output": str(out)}
    assert called.err == ""
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("format", ["rsrt-jsonl", "webdataset"])
def test_a_dash_is_stdout(shared_table: Path, tmp_path: Path, format: str) -> None:
    code = "from skytext.cli import main; main()"
    words = ["export", str(shared_table), "--format", format, "--output", "-"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, check=True)
    assert done.stderr == b""
    if format == "rsrt-jsonl":
        images = [json.loads(line)["image"] for line in done.stdout.splitlines()]
        assert sorted(images) == sorted(f"a.tar/{name}" for name in DESCRIBED)
        return
    path = tmp_path / "x.tar"
    path.write_bytes(done.stdout)
    with tarfile.open(path) as tar:
        assert len(tar.getnames()) == 2 * len(DESCRIBED)


WRONG = {
    "T --format csv": "--format must be one of rsrt-jsonl, webdataset, geojson, parquet (given",
    "T --format geojson --with-images": "--with-images needs --format webdataset",
    "T --format geojson --with-vectors": "--with-vectors needs --format parquet",
    "nowhere --format geojson": "there is no table at",
    "T --format geojson --output nowhere/x": "cannot write nowhere/x",
    "T --format geojson --json": "Write the export to a file: add --output FILE",
    "T --format geojson --version 99": "has no version 99",
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_calls_get_one_line(
    skytext: Skytext,
    shared_table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    called = skytext("export", *(shared_table if word == "T" else word for word in words.split()))
    assert called.status == 2
    assert called.out == ""
    assert WRONG[words] in called.err
    assert called.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_missing_images_fail_the_export_without_a_file(
    skytext: Skytext, shared_table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.tar"
    called = skytext(
        "export", shared_table, "--format", "webdataset", "--with-images", "--output", out
    )
    assert called.status == 1
    assert "cannot fetch file:///x/a.tar#" in called.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["file://{here}/my%20file", "FILE:{here}/my%20file", "my file"])
def test_an_output_is_a_local_address(
    skytext: Skytext,
    shared_table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    address: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    output = address.format(here=tmp_path)
    called = skytext("export", shared_table.as_uri(), "--format", "geojson", "--output", output)
    assert called.status == 0, called.err
    assert [path.name for path in tmp_path.iterdir()] == ["my file"]
