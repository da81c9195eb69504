"""What of this repository a release is made of, copied to a folder of a test's own."""

import shutil
from pathlib import Path

from tests.image.dockerfile import ROOT

PARTS = (
    *("Makefile", "Dockerfile", ".dockerignore", "LICENSE", "README.md", "CHANGELOG.md", "MANIFEST.in"),
    *("pyproject.toml", "setup.py", "requirements*", "argotun.py", "argotun", "chart"),
)
"""Names or patterns of names."""


def copy_clone(folder: Path) -> Path:
    """Copy it there; the folder."""
    folder.mkdir(parents=True)
    for path in (path for pattern in PARTS for path in ROOT.glob(pattern)):
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, folder / path.name)
    return folder
