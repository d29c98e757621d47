"""Install a `.pth` file next to the packages. `pyproject.toml` has no setting for this.

Each Python interpreter of the environment reads this file when it starts. See
`lib/skytext/models/torchvision_ops.py`.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PTH = "lib/skytext_torchvision_ops.pth"


class BuildWithPth(build_py):
    """A build step that also copies the `.pth` file, except for an editable install."""

    def run(self) -> None:
        """Build the packages, and copy the `.pth` file."""
        super().run()
        if not self.editable_mode:
            self.copy_file(PTH, str(Path(self.build_lib, Path(PTH).name)))

    def get_source_files(self) -> list[str]:
        """Return the files that a source distribution needs."""
        return [*super().get_source_files(), PTH]


setup(cmdclass={"build_py": BuildWithPth})
