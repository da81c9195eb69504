"""Of the benchmark with a real Argo CD: who is cut off, what a watch of applications says, what is shown."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench import pages, results
from bench.argocd import __main__, shown
from bench.argocd.board import Board, summary
from bench.argocd.errorlog import ErrorLog
from bench.argocd.places import DOORS, Place, moments, places
from bench.argocd.run import difference
from bench.argocd.samples import between
from bench.argocd.standin import sorted_out
from bench.argocd.tunnels import registration

# Who is where


@pytest.mark.parametrize(
    ("count", "share", "cut"),
    [(10, 0.3, 3), (200, 0.3, 60), (5, 0.0, 0), (1, 0.9, 0), (7, 0.5, 3)],
)
def test_so_large_a_share_of_the_clusters_is_cut_off(count: int, share: float, cut: int) -> None:
    found = places(count, share)
    assert [each.number for each in found] == list(range(1, count + 1))
    assert sum(each.cut for each in found) == cut


def test_those_that_are_cut_off_are_spread_evenly() -> None:
    found = places(100, 0.3)
    assert {sum(each.cut for each in found[first : first + 10]) for first in range(0, 100, 10)} == {3}


def test_each_cluster_has_an_address_of_its_own() -> None:
    for direct in (False, True):
        found = {place.address(direct) for place in places(1000, 0.3)}
        assert len(found) == 1000
        assert not found & set(DOORS.values())
        assert all(0 < int(part) < 255 for address in found for part in address.split(".")[3:])


def test_only_those_that_are_cut_off_are_among_the_addresses_that_can_be() -> None:
    lost, other = Place(3, cut=True), Place(4, cut=False)
    assert lost.address(direct=True).startswith("127.2.")
    assert other.address(direct=True).startswith("127.1.")
    # The agent is beside its API: what is cut is its way to the server.
    assert lost.address(direct=False).startswith("127.1.")
    assert DOORS[True].startswith("127.2.")
    assert not DOORS[False].startswith("127.2.")


def test_commits_are_made_as_long_as_there_is_time() -> None:
    assert moments(600, 20, 120) == [20, 140, 260, 380, 500]
    assert moments(90, 0, 30) == [0, 30, 60]
    assert moments(10, 20, 120) == []


def test_counts_are_those_of_the_group_that_a_cluster_is_of() -> None:
    by_address = {"127.1.0.1": Place(1, cut=False), "127.1.0.2": Place(2, cut=True)}
    counts = {"lists": 5, "open": 3}
    told = {"127.1.0.1": counts, "127.1.0.2": {"lists": 1, "open": 0}, "127.0.0.1": {"lists": 9}}
    now = sorted_out(told, by_address)
    assert now == {"kept": Counter(counts), "cut": Counter(lists=1)}
    assert difference(now, {"kept": Counter(lists=2, open=1), "cut": Counter()}) == {
        "kept": {"lists": 3, "open": 3},
        "cut": {"lists": 1, "open": 0},
    }


def test_a_cluster_is_registered_by_a_secret_of_argo_cds() -> None:
    secret = registration({"name": "c1", "server": "https://127.0.0.1:1", "config": "{}"})
    assert secret["metadata"]["labels"] == {"argocd.argoproj.io/secret-type": "cluster"}
    assert secret["stringData"]["name"] == "c1"


# What happens


def application(name: str, sync: str, revision: str = "", health: str = "Healthy") -> dict[str, Any]:
    status = {"sync": {"status": sync, "revision": revision}, "health": {"status": health}}
    return {"metadata": {"name": name}, "status": status if sync else {}}


def test_an_application_counts_from_when_it_was_first_synced_at_the_revision() -> None:
    board = Board()
    for now, each in (
        (1.0, application("c1", "Synced", "old")),
        (2.0, application("c1", "OutOfSync", "new")),
        (3.5, application("c1", "Synced", "new")),
        (9.0, application("c1", "Synced", "new")),
        (5.0, application("c2", "Synced", "new")),
        (6.0, application("c3", "", "")),
    ):
        board.take(each, now)
    assert board.since(["c1", "c2", "c3", "c4"], "new", 1.5) == [2.0, 3.5]
    assert board.since(["c1"], "old", 1.5) == [0.0]


def test_states_count_that_were_seen_since_and_those_that_last() -> None:
    board = Board()
    board.take(application("c1", "Unknown", health="Missing"), 1.0)
    board.take(application("c1", "Synced", "new"), 2.0)
    board.take(application("c2", "", ""), 2.0)
    board.forget()
    board.take(application("c2", "Synced", "new"), 3.0)
    assert board.states(["c1", "c2"]) == {"Synced, Healthy": 2, "none, none": 1}
    assert board.states(["c1"]) == {"Synced, Healthy": 1}


def test_a_round_is_remembered_by_its_median_and_its_last() -> None:
    assert summary([1.0, 2.0, 9.0], 4) == {"of": 4, "synced": 3, "median": 2.0, "last": 9.0}
    assert summary([], 4) == {"of": 4, "synced": 0}


def test_memory_is_that_of_the_moments_between() -> None:
    samples = [(at, {"server": 1024 * mib}) for at, mib in enumerate((90, 10, 40, 20, 80))]
    assert between(samples, 1, 3) == {"server": {"first": 10, "peak": 40, "last": 20}}
    assert between(samples, 7, 8) == {}


def test_error_lines_are_counted_once_and_whole(tmp_path: Path) -> None:
    log = tmp_path / "controller.log"
    log.write_text('{"level":"error","msg":"before"}\n')
    errors = ErrorLog(log)
    error = json.dumps({"level": "error", "msg": "no way to 127.0.0.1:80"}, separators=(",", ":"))
    with log.open("a") as written:
        written.write(f"{error}\n" + '{"level":"info","msg":"fine"}\n' + "E1129 08:00:00 1 x.go:1] gone\n")
        written.write(error[:9])
    assert errors.take() == {"no way to … ": 1, "gone": 1}
    with log.open("a") as written:
        written.write(f"{error[9:]}\n")
    assert errors.take() == {"no way to … ": 1}
    assert errors.take() == {}


# What is shown


def record(**more: Any) -> results.Record:
    def phase(name: str, **parts: Any) -> dict[str, Any]:
        memory = {"controller": {"first": 900, "peak": 2000, "last": 1000}}
        requests = {"kept": {"lists": 1, "open": 4}, "cut": {"lists": 1, "open": 2}}
        other = {"requests": requests, "memory": memory, "agents_memory": 0, "states": {"kept": {}}}
        return {"name": name, "cpu": {"controller": 0.5}, "errors": 1234, "rounds": [], **other, **parts}

    def commit(kept: int, last: float) -> dict[str, Any]:
        every = {"of": 7, "synced": kept, "median": 1.0, "last": last}
        return {"at": 0.0, "told": 0.1, "kept": every, "cut": {"of": 3, "synced": 3, "median": 2, "last": 3}}

    outage = phase("outage", rounds=[commit(7, 4.0), commit(5, 6.0)])
    outage["states"] = {"kept": {"Synced, Healthy": 7, "Unknown, Missing": 2}}
    return {
        "when": "2026-11-29T10:00:00+00:00",
        "machine": {"processors": 2, "load before": 0.1, "commit": "abc"},
        "versions": {"Argo CD": "v3"},
        "plan": {"clusters": 10, "share": 0.3, "outage": 600.0, "limit": 100.0, "calm": 90.0, "vanish": True},
        "fill": 12.3,
        "watches": 530,
        "phases": [phase("before", rounds=[commit(7, 3.0)]), outage, phase("after", rounds=[commit(7, 5.0)])],
        "back": {"healed": {"of": 3, "synced": 0}, "lists": 4, "listed": 2.4},
        **more,
    }


def row(table: str, label: str) -> list[str]:
    (found,) = (line for line in table.splitlines() if line.startswith(f"| {label} |"))
    return [cell.strip() for cell in found.split("|")[2:-1]]


def test_a_table_says_which_commits_did_not_reach_all() -> None:
    table = shown.table({"through argotun": record()})
    assert row(table, "clusters") == ["10, 530 watches; 3 cut off for 10 min"]
    assert row(table, "commits before the outage: all other clusters have it after") == ["3 s"]
    assert row(table, "… in the outage") == ["4 s; 5 of 7 within 100 s"]
    (worse,) = row(table, "other clusters' applications shown in the outage as anything but Healthy")
    assert worse == "2 Unknown, Missing"
    (lists,) = row(table, "lists of the clusters that came back, before another commit")
    assert lists == "4, 2.0 for each watch, the last after 2 s"


def test_a_row_that_no_run_has_is_left_out_and_a_cell_may_be_empty() -> None:
    with_agents = record(
        back={"agents": {"of": 3, "synced": 3, "median": 1, "last": 9}, "lists": 0, "listed": 0}
    )
    label = "agents connected again"
    assert f"| {label} |" not in shown.table({"directly": record()})
    both = shown.table({"through argotun": with_agents, "directly": record()})
    assert row(both, label) == ["3 of 3 within 90 s, half of these after 1 s, the last after 9 s", ""]


def test_without_a_run_nothing_is_shown() -> None:
    assert shown.block(dict.fromkeys(shown.WAYS)) == "Not measured yet.\n"
    (begin, *_) = shown.block({"argocd": record(), "argocd-direct": None}).splitlines()
    assert begin == "| | through argotun |"


def test_the_document_shows_the_runs_that_are_kept() -> None:
    block = pages.blocks()[pages.ARGOCD]["scale"]
    assert block == shown.block({name: results.kept(name) for name in shown.WAYS})


# How it is called


@pytest.mark.parametrize("wrong", [["--clusters", "0"], ["--cut", "1"], ["--outage", "soon"]])
def test_a_wrong_option_ends_the_run_before_anything_is_built(wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        __main__._options(wrong)


def test_each_part_of_the_plan_is_an_option() -> None:
    options = __main__._options(["--clusters", "5", "--cut", "0.4", "--reset"])
    plan = __main__.planned(options)
    assert (plan.clusters, plan.share, plan.vanish) == (5, 0.4, False)
    assert plan.outage == 600
