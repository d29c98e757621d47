from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ray.core.generated.common_pb2 import JobConfig

from skytext.run.cluster.cluster import _DriverPath


def path_of_workers(*added: Path) -> list[str]:
    """Return the folders at the start of the import path of workers.

    ``added`` contains the folders that `ray.init` adds.
    """
    job = _DriverPath()
    job._py_driver_sys_path.extend(str(folder) for folder in added)
    return list(JobConfig.FromString(job._serialize()).py_driver_sys_path)


def test_workers_do_not_import_from_a_working_directory_that_the_driver_does_not_import_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, here = tmp_path / "script", tmp_path / "here"
    monkeypatch.setattr(sys, "path", [str(script), "/usr/lib/python3"])
    assert path_of_workers(script, here) == [str(script)]


def test_workers_import_from_the_working_directory_as_an_interactive_driver_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "/usr/lib/python3"])
    assert path_of_workers(tmp_path) == [str(tmp_path)]
