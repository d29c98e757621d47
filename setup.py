"""Put one `.pth` file beside the packages: `pyproject.toml` has no setting for that.

Each interpreter of the environment reads it: see `lib/skytext/models/torchvision_ops.py`.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PTH = "lib/skytext_torchvision_ops.pth"


class BuildWithPth(build_py):
    """Builds the packages and copies the file; an editable install leaves it out."""

    def run(self) -> None:
        """Build."""
        super().run()
        if not self.editable_mode:
            self.copy_file(PTH, str(Path(self.build_lib, Path(PTH).name)))

    def get_source_files(self) -> list[str]:
        """Return the files that a source distribution needs."""
        return [*super().get_source_files(), PTH]


setup(cmdclass={"build_py": BuildWithPth})
