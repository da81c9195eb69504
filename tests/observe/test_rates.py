"""Bytes a second: smoothed, of names that come and go, and never below nothing."""

from argotun.observe.rates import SPAN, Rates


def run(rates: Rates, seconds: int, per_second: float, start: float = 0.0, at: int = 0) -> float:
    """Measure once a second while the counters grow evenly; where they end."""
    for second in range(1, seconds + 1):
        start += per_second
        rates.measure({"c1": (start, 2 * start)}, at + second)
    return start


def test_an_even_flow_is_its_own_rate() -> None:
    rates = Rates()
    rates.measure({"c1": (0, 0)}, 0)
    run(rates, int(SPAN) * 8, 100)
    to, back = rates.of("c1")
    assert 99 < to < 100.1
    assert 198 < back < 200.1


def test_a_flow_that_ends_fades() -> None:
    rates = Rates()
    rates.measure({"c1": (0, 0)}, 0)
    end = run(rates, int(SPAN) * 8, 100)
    run(rates, int(SPAN), 0, end, int(SPAN) * 8)
    assert 30 < rates.of("c1")[0] < 45


def test_what_was_carried_before_the_first_look_is_no_rate() -> None:
    rates = Rates()
    rates.measure({"c1": (1e9, 1e9)}, 5)
    rates.measure({"c1": (1e9, 1e9)}, 6)
    assert rates.of("c1") == (0.0, 0.0)


def test_a_counter_that_begins_anew_is_no_negative_rate() -> None:
    rates = Rates()
    rates.measure({"c1": (1e9, 1e9)}, 0)
    rates.measure({"c1": (0, 0)}, 1)
    assert rates.of("c1") == (0.0, 0.0)


def test_a_name_that_is_gone_leaves_nothing() -> None:
    rates = Rates()
    rates.measure({"c1": (0, 0)}, 0)
    rates.measure({"c1": (500, 500)}, 1)
    assert rates.of("c1")[0] > 0
    rates.measure({}, 2)
    assert rates.of("c1") == (0.0, 0.0)
    assert not rates._before
    assert not rates._rates
