"""The image, built once for a run."""

from pathlib import Path

import pytest

from tests.image.dockerfile import Image, MissingError, build


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    try:
        return build(tmp_path_factory.mktemp("image"))
    except MissingError as why:
        pytest.skip(str(why))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for a container's log."""
    return tmp_path / "container"
