"""What a tunnel holds while nothing happens on it, and what each silent connection of a client adds."""

import time

from bench import idle, procfs
from bench.client import Client
from bench.scenarios.scene import Figures, NotMeasured, Row, Scenario, Stage

ROLES = ("server", "agent")


def _tunnel(stage: Stage) -> Figures:
    """After a few requests, so that what is loaded late is there."""
    _needs_two_ends(stage)
    with stage.fresh() as running:
        with Client(f"{running.url}/small", stage.ground.certificates.ca) as client:
            for _ in range(idle.WARM_REQUESTS):
                client.get()
        time.sleep(idle.SETTLE)
        return {role: procfs.memory(running.children[role].pid).unshared / 1024 for role in ROLES}


def _stream(stage: Stage) -> Figures:
    _needs_two_ends(stage)
    with stage.fresh() as running:
        found = idle.measure(
            running, stage.ground.upstream, stage.ground.certificates.ca, stage.effort.streams
        )
    figures = {role: found.bytes_per_stream[role] / 1024 for role in ROLES}
    return figures | {"connections": float(found.upstream_connections)}


def _needs_two_ends(stage: Stage) -> None:
    if not stage.running.children:
        raise NotMeasured("there is no tunnel")


SCENARIOS = (
    Scenario(
        "idle-tunnel",
        "memory of its own (USS) of a fresh server and a fresh agent with one tunnel",
        (Row("server", "MiB: server"), Row("agent", "MiB: agent")),
        _tunnel,
    ),
    Scenario(
        "idle-stream",
        "what each of 1,000 kept connections adds, silent after one request",
        (
            Row("server", "KiB: server"),
            Row("agent", "KiB: agent"),
            Row("connections", "connections at the API", 0),
        ),
        _stream,
    ),
)
