"""Test the temporary folder of a local Ray if the configured folders cannot be used."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from skytext.errors import ConfigError, JobError
from skytext.run.cluster import ray_temp_dir
from skytext.run.cluster.ray_temp_dir import MAX_BYTES, short_temp_dir


@pytest.fixture(autouse=True)
def nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    yield
    tempfile.tempdir = None


@pytest.fixture
def short() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


def environment() -> tuple[str | None, str | None]:
    return os.environ.get("RAY_TMPDIR"), os.environ.get("TMPDIR")


def test_a_suitable_folder_is_kept(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(short))
    with short_temp_dir() as folder:
        assert folder == str(short)
        assert environment() == (None, str(short))
    assert list(short.iterdir()) == []


def test_a_long_path_is_reached_through_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long" * 20)
    long.mkdir()
    for name in ("TMPDIR", "RAY_TMPDIR"):
        monkeypatch.setenv(name, str(long))
        with short_temp_dir() as folder:
            assert len(folder) <= MAX_BYTES
            assert Path(folder).resolve() == long
            assert Path(folder).parent.stat().st_mode & 0o777 == 0o700
            assert os.environ[name] == folder
            if name == "TMPDIR":
                assert tempfile.gettempdir() == folder
        assert os.environ[name] == str(long)
        assert not Path(folder).parent.exists()
        assert long.is_dir()


def test_a_ray_folder_that_cannot_be_written_is_not_used(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (short / "ray").write_text("a file replaces a folder that even root cannot write to")
    monkeypatch.setenv("TMPDIR", str(short))
    with short_temp_dir() as folder:
        assert environment() == (folder, str(short))
        assert Path(folder).stat().st_mode & 0o777 == 0o700
        (Path(folder) / "ray").mkdir()
    assert environment() == (None, str(short))
    assert not Path(folder).exists()


def test_logs_named_in_an_error_are_kept(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (short / "ray").touch()
    monkeypatch.setenv("TMPDIR", str(short))
    folders = []

    def fail(text: str) -> None:
        with short_temp_dir() as folder:
            folders.append(Path(folder))
            raise JobError(text.format(folder))

    for text in ("the logs under {}/ray say more", "the disk is full"):
        with pytest.raises(JobError):
            fail(text)
    assert [folder.exists() for folder in folders] == [True, False]
    folders[0].rmdir()


def test_a_configured_folder_is_not_replaced(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (short / "ray").touch()
    monkeypatch.setenv("RAY_TMPDIR", str(short))
    with pytest.raises(ConfigError, match=f"RAY_TMPDIR={short}. Set"), short_temp_dir():
        pass
    assert environment() == (str(short), None)


def test_without_a_suitable_folder_one_line_gives_advice(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> str:
        raise PermissionError

    (short / "ray").touch()
    monkeypatch.setenv("TMPDIR", str(short))
    monkeypatch.setattr(ray_temp_dir.tempfile, "mkdtemp", refuse)
    with pytest.raises(ConfigError, match="set RAY_TMPDIR to a writable folder"), short_temp_dir():
        pass


def test_a_full_disk_is_reported_before_ray_starts(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(short))
    monkeypatch.setattr(ray_temp_dir, "MIN_FREE_BYTES", 2**80)
    with pytest.raises(JobError, match=f"No space left on device: {short}: "), short_temp_dir():
        pass


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_the_ray_of_this_session_works_below_a_path_that_is_too_long_for_sockets() -> None:
    import ray

    from skytext.run.cluster.cluster import ray_logs

    temporary = ray.get(ray.remote(lambda: os.environ["TMPDIR"]).remote())
    real = os.path.realpath(temporary)
    assert len(temporary) <= MAX_BYTES < len(real)
    assert ray_logs().startswith(f"{real}/ray/session_")
    assert (Path(ray_logs()) / "raylet.out").exists()
