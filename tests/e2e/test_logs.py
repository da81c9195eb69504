"""kubectl logs: what is there, what comes while it follows, and the end of following."""

import datetime
import signal
import time

import gevent
import pytest

from .harness.processes import running
from .harness.tunnel import Tunnel
from .harness.waiting import until
from .harness.way import Way

pytestmark = pytest.mark.node


def write(way: Way, *lines: str, fresh: bool = False) -> None:
    """Log lines in CRI format, appended unless they start the log afresh."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    with way.log.open("w" if fresh else "a") as log:
        log.writelines(f"{now} stdout F {line}\n" for line in lines)


def kubelet_ended(way: Way) -> int:
    """How many log requests for the way's pod the kubelet has seen end."""
    text = (way.cluster.folder / "fakekubelet.log").read_text()
    return text.count(f"ended GET /containerLogs/{way.namespace}/{way.pod}/")


def test_the_lines_that_are_there_are_shown(way: Way, pod: str) -> None:
    write(way, "one", "two", "drei ü", fresh=True)
    assert way.kubectl.text("logs", pod) == "one\ntwo\ndrei ü"
    assert way.kubectl.text("logs", pod, "--tail=1") == "drei ü"
    assert way.kubectl.run("logs", pod, "--limit-bytes=5").stdout == b"one\nt"


def test_a_long_log_comes_whole(way: Way, pod: str) -> None:
    lines = [f"{n:06} {'x' * 90}" for n in range(100_000)]
    write(way, *lines, fresh=True)
    assert way.kubectl.text("logs", pod).splitlines() == lines


def test_lines_are_shown_as_they_are_written_until_kubectl_is_stopped(way: Way, pod: str) -> None:
    write(way, "before", fresh=True)
    seen = kubelet_ended(way)
    with running(way.kubectl.start("logs", "-f", pod)) as kubectl, gevent.Timeout(30):
        assert kubectl.stdout
        assert kubectl.stdout.readline() == b"before\n"
        for n in range(5):
            write(way, f"line {n}")
            assert kubectl.stdout.readline() == b"line %d\n" % n
        kubectl.send_signal(signal.SIGINT)
        assert kubectl.wait() != 0
    until("the end of the client reaches the kubelet", lambda: kubelet_ended(way) == seen + 1, seconds=10)


def test_readers_that_stand_still_hold_up_nobody(tunnel: Tunnel, tunnel_way: Way, pod: str) -> None:
    write(tunnel_way, *("x" * 1000 for _ in range(40_000)), fresh=True)
    path = tunnel_way.path(f"pods/{pod}/log?follow=true")
    api = tunnel_way.api
    with api.connection() as one, api.connection() as two, api.connection() as three:
        for stalled in (one, two, three):
            assert api.send(stalled, "GET", path).status == 200
        slowest = 0.0
        for _ in range(50):
            started = time.monotonic()
            assert api.get("/version").status == 200
            slowest = max(slowest, time.monotonic() - started)
        assert slowest < 2
    for process in tunnel.processes():
        process.check()
