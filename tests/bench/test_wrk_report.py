"""Reading what `wrk --latency` prints."""

import pytest

from bench import wrk
from bench.errors import BenchError

REPORT = """\
Running 3s test @ http://127.0.0.1:8080/tunnel/bench/small
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     3.21ms    1.02ms  20.91ms   89.12%
    Req/Sec    19.80k     1.21k   22.10k    70.00%
  Latency Distribution
     50%  910.00us
     75%    3.50ms
     90%    4.10ms
     99%    1.07s
  59402 requests in 3.00s, 70.11MB read
Requests/sec:  19788.23
Transfer/sec:     25.05MB
"""
TROUBLE = """\
  59402 requests in 3.00s, 70.11MB read
  Socket errors: connect 1, read 20, write 300, timeout 4000
  Non-2xx or 3xx responses: 50000
"""


def test_units_of_latency_are_told_apart() -> None:
    result = wrk.parse(REPORT)
    assert (result.requests, result.rate) == (59402, 19788.23)
    assert result.p50 == pytest.approx(910e-6)
    assert result.p99 == pytest.approx(1.07)
    assert result.errors == 0


def test_every_kind_of_error_counts() -> None:
    troubled = REPORT.replace("  59402 requests in 3.00s, 70.11MB read\n", TROUBLE)
    assert wrk.parse(troubled).errors == 54321


@pytest.mark.parametrize("missing", ["     99%    1.07s\n", "Requests/sec:  19788.23\n", "59402 requests"])
def test_half_a_report_is_refused(missing: str) -> None:
    with pytest.raises(BenchError, match="not a report"):
        wrk.parse(REPORT.replace(missing, ""))
