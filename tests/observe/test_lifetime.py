"""The first and the last lines of a process: where each of its ports is, and that it has ended."""

import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest

from bench.ports import held
from tests.processes import Process
from tests.rig import until

CLUSTERS = '[{"id": "c1", "token": "token-of-agent-c1"}]'
FREE = "127.0.0.1:0"

BEGUN = re.compile(r"(server listens|agent starts) .+\n")

STARTED = 60.0
"""Seconds that a process may take to start on a busy machine."""

Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a server or an agent, which has nobody to connect to; waits until it has told of its ports."""
    (tmp_path / "token").write_text("token-of-the-account")
    started: list[Process] = []
    with held() as port:
        modes = {
            "server": ("--addr", FREE, "--internal-addr", FREE, "--clusters", CLUSTERS),
            "agent": (
                *("--server", "ws://{}:{}".format(*port.getsockname()[:2]), "--allow-insecure-server"),
                *("--token", "token-of-agent-c1", "--target", "127.0.0.1:1", "--plain-target"),
                *("--sa-token-path", str(tmp_path / "token")),
            ),
        }

        def run(mode: str, health: str) -> Process:
            process = Process(mode, *modes[mode], "--health-addr", health)
            started.append(process)
            until(lambda: BEGUN.search(process.log), f"the {mode}", STARTED, explain=lambda: process.log)
            return process

        yield run
        for process in started:
            process.close()


def test_a_server_says_where_each_of_its_ports_is(start: Start) -> None:
    start("server", FREE).says(
        r"server listens public=127.0.0.1:\d+ internal=127.0.0.1:\d+ health=127.0.0.1:[1-9]\d* clusters=1\n"
    )


@pytest.mark.parametrize("mode", ["server", "agent"])
def test_no_health_port_is_named_where_there_is_none(start: Start, mode: str) -> None:
    assert "health=" not in start(mode, "off").log


@pytest.mark.parametrize("mode", ["server", "agent"])
def test_the_last_line_says_that_it_has_ended(start: Start, mode: str) -> None:
    process = start(mode, FREE)
    # It answers, and so it has begun to heed signals.
    where = process.says(r"health=(127\.0\.0\.1:[1-9]\d*)")[1]
    with build_opener(ProxyHandler({})).open(f"http://{where}/healthz", timeout=60) as answer:
        assert answer.read() == b"ok"
    process.signal(signal.SIGINT)
    assert process.code() == 0
    process.close()
    assert process.log.splitlines()[-1].endswith(f"INFO  {mode}: ended")
