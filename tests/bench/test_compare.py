"""Two commits in turn: what counts as a difference, and a run of both."""

import pytest

from bench.compare import checkout, compare
from bench.errors import BenchError

BASE = [100.0, 110.0, 90.0, 105.0]


@pytest.mark.parametrize(
    ("factors", "more_is_better", "verdict"),
    [
        ((1.1, 1.2, 1.05, 1.3), False, "slower"),
        ((1.1, 1.2, 1.05, 1.3), True, "faster"),
        ((0.9, 0.8, 0.95, 0.7), False, "faster"),
        ((0.9, 0.8, 0.95, 0.7), True, "slower"),
        ((1.1, 1.2, 0.99, 1.3), False, "noise"),
        ((1.01, 1.02, 1.03, 1.01), False, "noise"),
        ((1.0, 1.0, 1.0, 1.0), False, "noise"),
    ],
)
def test_a_difference_counts_where_all_rounds_agree(
    factors: tuple[float, ...], more_is_better: bool, verdict: str
) -> None:
    now = [value * factor for value, factor in zip(BASE, factors, strict=True)]
    assert compare(BASE, now, more_is_better).verdict == verdict


def test_the_factor_is_that_of_the_pairs_and_not_of_the_medians() -> None:
    found = compare([100.0, 200.0, 400.0], [110.0, 220.0, 440.0], False)
    assert (found.base, found.now) == (200.0, 220.0)
    assert found.factor == pytest.approx(1.1)


def test_a_commit_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(BenchError, match="no-such-commit"), checkout("no-such-commit"):
        pass


def test_an_option_of_git_is_no_commit() -> None:
    with pytest.raises(BenchError), checkout("--output=here"):
        pass


def test_a_commit_has_a_program() -> None:
    try:
        with checkout("HEAD") as program:
            assert program.read_text().startswith('"""Run argotun')
        assert not program.exists()
    except BenchError as error:
        pytest.skip(f"there is no history here: {error}")
