"""The first and the last lines of a process: where each of its ports is, and that it has ended."""

import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest

from argotun.address import host_port
from bench.ports import held
from tests.processes import Process
from tests.rig import Rig, until

CLUSTERS = '[{"id": "c1", "token": "token-of-agent-c1"}]'
FREE = "127.0.0.1:0"

BEGUN = re.compile(r"(server listens|agent starts) .+\n")

STARTED = 300.0
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


def begins(caplog: pytest.LogCaptureFixture, message: str) -> dict[str, object]:
    """The fields of a process's first line, in this one."""
    (record,) = (each for each in caplog.records if each.getMessage() == message)
    said: dict[str, object] = record.__dict__["fields"]
    return said


@pytest.mark.parametrize("health", [("127.0.0.1", 0), None])
def test_each_port_is_named_and_the_health_port_where_there_is_one(
    caplog: pytest.LogCaptureFixture, health: tuple[str, int] | None
) -> None:
    caplog.set_level("INFO")
    with Rig(server={"health_addr": health}, agent={"health_addr": health}) as rig:
        server, agent = rig.server, rig.agent
        ports = {"public": server.public_address, "internal": server.internal_address}
        mine = {}
        if health is not None:
            assert server._health is not None
            assert agent.health is not None
            ports["health"], mine["health"] = server._health.address, host_port(*agent.health.address)
        named = {name: host_port(*address) for name, address in ports.items()}
        assert begins(caplog, "server listens") == {**named, "clusters": 1}
        said = begins(caplog, "agent starts")
    assert {name: said[name] for name in said if name not in ("server", "target")} == mine


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
