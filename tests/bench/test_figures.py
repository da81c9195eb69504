"""From measurements to figures, and from figures to the table with its aims."""

import pytest

from bench import figures, report
from bench.idle import Idle
from bench.load import Cpu, Requests, Transfer
from bench.procfs import Memory
from bench.upstream import BULK
from bench.wrk import Result


def requests(count: int, rate: float, p50: float, **cpu: float) -> Requests:
    return Requests(Result(count, rate, p50, 10 * p50, errors=0), Cpu(cpu, others=0.0))


def test_rates_are_medians_and_cpu_is_total_over_total() -> None:
    runs = [
        requests(1000, 500.0, 0.001, server=0.03, agent=0.05, upstream=0.01),
        requests(3000, 900.0, 0.003, server=0.05, agent=0.07, upstream=0.03),
        requests(4000, 600.0, 0.002, server=0.08, agent=0.12, upstream=0.04),
    ]
    found = figures.of_requests(64, runs)
    assert found["rate_64"] == 600.0
    assert found["p50_64"] == pytest.approx(2.0)
    assert found["p99_64"] == pytest.approx(20.0)
    assert found["cpu_server_64"] == pytest.approx(20.0)
    assert found["cpu_agent_64"] == pytest.approx(30.0)
    assert found["cpu_together_64"] == pytest.approx(50.0)
    assert found["cpu_upstream_64"] == pytest.approx(10.0)


def test_nginx_alone_has_no_tunnel_to_add_up() -> None:
    assert "cpu_together_1" not in figures.of_requests(1, [requests(10, 1.0, 0.1, upstream=1.0)])


def test_transfers_count_cpu_per_hundred_megabytes() -> None:
    runs = [Transfer(rate, Cpu({"server": 0.2, "agent": 0.4}, 0.0)) for rate in (100e6, 300e6)]
    found = figures.of_transfers("down", runs)
    assert found["down_rate"] == pytest.approx(200.0)
    assert found["down_cpu_server"] == pytest.approx(0.4e3 / (2 * BULK / 100e6))
    assert found["down_cpu_together"] == pytest.approx(3 * found["down_cpu_server"])


def test_memory_is_in_mebibytes_and_idle_streams_in_kibibytes() -> None:
    assert figures.of_memory({"agent": Memory(rss=2048, peak=4096, unshared=1)}) == {
        "rss_peak_agent": 4.0,
        "rss_after_agent": 2.0,
    }
    assert figures.of_idle(Idle({"server": 2560.0}, 2000)) == {"idle_server": 2.5, "idle_connections": 2000.0}


def test_ratios_are_to_nginx_alone_and_only_of_rates() -> None:
    subjects = {
        "direct": {"rate_64": 1000.0, "down_rate": 500.0, "p50_64": 1.0},
        "argotun": {"rate_64": 250.0, "down_rate": 200.0, "p50_64": 4.0, "up_rate": 9.0},
    }
    figures.add_ratios(subjects)
    assert subjects["argotun"]["rate_64_of_direct"] == 25.0
    assert subjects["argotun"]["down_rate_of_direct"] == 40.0
    assert not [key for key in subjects["argotun"] if key.startswith(("p50_64_", "up_rate_"))]
    assert not [key for key in subjects["direct"] if key.endswith("_of_direct")]


def test_spread_needs_two_rounds() -> None:
    assert figures.spread([7.0]) == 0.0
    assert figures.spread([9.0, 10.0, 12.0]) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("aim", "value", "verdict"),
    [
        (report.Aim(80), 80.0, "≤ 80 met"),
        (report.Aim(80), 100.0, "≤ 80 MISSED by 25 %"),
        (report.Aim(30, at_least=True), 30.0, "≥ 30 met"),
        (report.Aim(30, at_least=True), 24.0, "≥ 30 MISSED by 20 %"),
        (report.Aim(0.35), None, "≤ 0.35"),
    ],
)
def test_an_aim_is_judged_from_the_right_side(aim: report.Aim, value: float | None, verdict: str) -> None:
    assert aim.verdict(value) == verdict


def test_the_table_leaves_out_what_nobody_measured_and_lines_up() -> None:
    drawn = report.table({"direct": {"rate_1": 11407.2}, "argotun": {"rate_1": 3583.0, "p50_1": 0.414}})
    lines = drawn.splitlines()
    assert [cell.strip() for cell in lines[0].split("|")[1:-1]] == [
        "",
        "direct",
        "argotun",
        "aim for argotun",
    ]
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]][1:] == ["11,407", "3,583", ""]
    assert [cell.strip() for cell in lines[3].split("|")[1:-1]][1:] == ["", "0.41", "≤ 0.35 MISSED by 18 %"]
    assert len(lines) == 4
    assert len({len(line) for line in lines}) == 1


def test_the_aims_that_were_promised_are_in_the_table() -> None:
    promised = {
        "cpu_together_64": (80, False),
        "p50_1": (0.35, False),
        "down_rate_of_direct": (30, True),
        "up_rate_of_direct": (30, True),
        "idle_server": (14, False),
        "idle_agent": (34, False),
        "cpu_together_64_of_floor": (1.3, False),
        "p50_1_of_floor": (1.5, False),
        "p99_64_of_floor": (2, False),
        "down_rate_of_floor": (1, True),
        "up_rate_of_floor": (1, True),
    }
    assert {row.key: (row.aim.bound, row.aim.at_least) for row in report.ROWS if row.aim} == promised
    measured = {"argotun": {"p50_1": 0.3, "idle_agent": 35.0}}
    assert {aim["key"]: aim["met"] for aim in report.aims(measured)} == {"p50_1": True, "idle_agent": False}
