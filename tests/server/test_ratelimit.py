"""The token bucket: bursts, the average, and clocks that stand still or jump."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argotun.server.ratelimit import TokenBucket


def taken(bucket, now, tries=1000):
    return sum(bucket.take(now) for _ in range(tries))


def test_a_full_bucket_allows_its_burst_and_no_more():
    assert taken(TokenBucket(10, 25), now=100.0) == 25


def test_an_empty_bucket_fills_at_its_rate_up_to_its_burst():
    bucket = TokenBucket(10, 20)
    taken(bucket, now=0.0)
    assert taken(bucket, now=0.05) == 0
    assert taken(bucket, now=0.1) == 1
    assert taken(bucket, now=0.6) == 5
    assert taken(bucket, now=1000.0) == 20


@pytest.mark.parametrize("rate", [0.5, 1, 3, 50])
def test_a_steady_rate_is_never_refused(rate):
    bucket = TokenBucket(rate, rate)
    assert all(bucket.take(1e6 + turn / rate) for turn in range(1000))


def test_a_rate_below_one_still_allows_single_requests():
    bucket = TokenBucket(0.5, 0.5)
    assert [bucket.take(now) for now in (0.0, 1.0, 2.0, 3.0, 4.0)] == [True, False, True, False, True]


def test_a_clock_that_jumps_back_gives_nothing_away():
    bucket = TokenBucket(10, 10)
    taken(bucket, now=100.0)
    assert taken(bucket, now=0.0) == 0
    assert taken(bucket, now=100.1) == 1


def test_a_refused_request_costs_nothing():
    bucket = TokenBucket(10, 1)
    assert bucket.take(0.0)
    assert taken(bucket, now=0.05) == 0
    assert bucket.take(0.1)


@given(
    st.floats(0.1, 1000),
    st.floats(1, 100),
    st.lists(st.floats(0, 10, allow_nan=False), max_size=200).map(sorted),
)
def test_no_stretch_of_time_allows_more_than_rate_and_burst(rate, burst, times):
    bucket = TokenBucket(rate, burst)
    allowed = [now for now in times if bucket.take(now)]
    for first, start in enumerate(allowed):
        for last in range(first, len(allowed)):
            assert last - first + 1 <= burst + rate * (allowed[last] - start) + 1e-3
