"""Provide a table after its first run. The table is made once and copied for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from skytext.run.plans.caption_plan import plan_caption
from skytext.run.reindex.reindex_run import run_reindex
from tests.archives import images, write_archive
from tests.run.jobs import config


@pytest.fixture(scope="session")
def _first_run(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Path:
    folder = tmp_path_factory.mktemp("first-run")
    root = write_archive(folder / "aerial", {"a.tar": images(0, 4), "b.tar": images(10, 4)})
    settings = config(index__vector="never")
    run_reindex(plan_caption([str(root)], str(folder / "table"), settings, stale="all"))
    return folder


@pytest.fixture
def described(_first_run: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Return the folders of an archive and its table.

    The archive has the images 0 to 3 in a.tar and the images 10 to 13 in b.tar.
    """
    for name in ("aerial", "table"):
        shutil.copytree(_first_run / name, tmp_path / name)
    return tmp_path / "aerial", tmp_path / "table"
