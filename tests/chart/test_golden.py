"""What each set of values renders is what was read and found right."""

import pytest

from tests.chart.golden import FOLDER, expected, file
from tests.chart.helm import Helm
from tests.chart.values import MATRIX

LONGEST = 400
"""Lines; a file that is longer is read by nobody."""


@pytest.mark.parametrize("name", MATRIX)
def test_each_set_renders_what_it_did(helm: Helm, name: str) -> None:
    assert file(name).read_text("utf-8") == expected(helm, name), (
        "run python -m tests.chart.golden and read the change"
    )


def test_each_file_belongs_to_a_set_and_is_short_enough_to_be_read() -> None:
    assert {each.name for each in FOLDER.iterdir()} == {file(name).name for name in MATRIX}
    assert all(len(each.read_text("utf-8").splitlines()) <= LONGEST for each in FOLDER.iterdir())
