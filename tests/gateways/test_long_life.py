"""A tunnel's life behind Envoy: an hour without a request, its restart, its drain."""

import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from time import monotonic
from typing import Any

import gevent
import pytest

from argotun.config import AgentConfig
from tests.chart.helm import ROOT
from tests.gateways import test_passthrough, test_termination
from tests.gateways.conftest import Render
from tests.gateways.envoy import PATIENCE
from tests.gateways.model import DEFAULTS, Timeouts
from tests.gateways.stage import Stage
from tests.rig import Peer, until

FACTOR = 60
"""How much faster time goes here: an hour is a minute, keepalive's 15 s are 0.25 s."""
HOUR = 3600 / FACTOR
KEEPALIVE = AgentConfig().keepalive / FACTOR
MANY = 1000.0
"""Seconds that no test lasts."""

SHORT = DEFAULTS.shortened(FACTOR)
BOXES: dict[str, tuple[bool, Timeouts]] = {
    "Envoy, TLS passed through: 3600 s, here 60 s": (True, SHORT),
    "Envoy, TLS ended: 300 s for a stream and 15 s for a request, here 5 s and 0.25 s": (False, SHORT),
    "the shortest in use, of AWS ALB and ingress-nginx: 60 s, here 1 s": (
        True,
        replace(SHORT, tcp_idle=60 / FACTOR),
    ),
}
"""Who would cut an idle connection and when → whether TLS passes through, and Envoy's timeouts."""

WAYS = {"passthrough": True, "termination": False}
each_way = pytest.mark.parametrize("passthrough", WAYS.values(), ids=WAYS)


def objects(render: Render, passthrough: bool) -> list[dict[str, Any]]:
    ways = test_passthrough.WAYS if passthrough else test_termination.WAYS
    return render(ways["gateway-api"]).objects


def test_every_documented_timeout_is_longer_than_the_keepalive() -> None:
    table = (ROOT / "docs" / "exposing-argotun.md").read_text("utf-8").partition("## Idle timeouts")[2]
    rows = re.findall(r"^\| .* \| (\d+) s\b[^|]* \| (\d+) \|$", table, re.M)
    assert len(rows) == 8
    for seconds, pings in rows:
        assert int(pings) == int(seconds) // AgentConfig().keepalive
        assert int(pings) >= 3


def test_an_idle_tunnel_outlives_an_hour_and_a_silent_one_does_not(render: Render) -> None:
    with ExitStack() as all_stages:

        def start(passthrough: bool, timeouts: Timeouts, keepalive: float) -> Stage:
            # The keepalive's own timeout is not what is tested.
            both = {"keepalive": keepalive, "keepalive_timeout": MANY}
            stage = Stage(
                objects(render, passthrough), passthrough=passthrough, timeouts=timeouts, server=both
            )
            all_stages.enter_context(stage)
            stage.start_agent(**both)
            return stage

        kept = {name: start(*box, KEEPALIVE) for name, box in BOXES.items()}
        silent = {name: start(*box, MANY) for name, box in BOXES.items()}
        began = monotonic()
        tunnels = {name: stage.session for name, stage in kept.items()}
        mute = {name: stage.session for name, stage in silent.items()}
        while monotonic() < began + HOUR:
            for name, stage in kept.items():
                assert stage.server.registry.all() == [tunnels[name]], f"{name}: cut"
            gevent.sleep(0.1)
        for name, stage in silent.items():
            until(lambda n=name, s=stage: mute[n] not in s.server.registry.all(), name, PATIENCE)  # type: ignore[misc]
        for name, stage in kept.items():
            assert stage.get().status == 200
            assert stage.server.registry.all() == [tunnels[name]], f"{name}: cut"


@each_way
@pytest.mark.parametrize(
    "end", [lambda envoy: envoy.stop(), lambda envoy: envoy.kill()], ids=["stop", "kill"]
)
def test_an_agent_comes_back_after_envoys_restart(
    render: Render, passthrough: bool, end: Callable[[Any], None]
) -> None:
    with Stage(objects(render, passthrough), passthrough=passthrough) as stage:
        stage.start_agent()
        before = stage.session
        end(stage.envoy)
        until(lambda: before not in stage.server.registry.all(), "the end of the tunnel", PATIENCE)
        stage.envoy.start()
        until(lambda: len(stage.server.registry), "the new tunnel", PATIENCE)
        assert stage.get().status == 200


@each_way
def test_no_request_hangs_when_envoy_dies_under_it(render: Render, passthrough: bool) -> None:
    def silent(peer: Peer) -> None:
        peer.head()
        peer.rest()

    with Stage(objects(render, passthrough), passthrough=passthrough) as stage:
        stage.api.script = silent
        stage.start_agent()
        client = stage.client()
        client.send(b"GET /tunnel/c1/api HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: stage.api.live, "the request at the API", PATIENCE)
        stage.envoy.kill()
        assert client.response().status == 502


@each_way
def test_a_drain_of_envoy_cuts_no_stream_and_keeps_no_agent_out(render: Render, passthrough: bool) -> None:
    """The old Envoy drains and ends while the new one has its port: what a rollout of a gateway is."""

    def watch(peer: Peer) -> None:
        while True:
            if b"/watch" not in peer.head():
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                continue
            peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                peer.send(b"2\r\nhi\r\n")
                gevent.sleep(0.01)

    options = {"passthrough": passthrough, "server": {"reconnect_grace": 30.0}}
    with Stage(objects(render, passthrough), **options) as stage:
        stage.api.script = watch
        stage.start_agent()
        before = stage.session
        watcher = stage.client()
        watcher.send(b"GET /tunnel/c1/watch HTTP/1.1\r\nHost: x\r\n\r\n")
        watcher.head()
        old = stage.envoy
        with stage.another_envoy() as new:
            old.drain()
            until(lambda: old.count("listener_manager.listener_stopped"), "the drain", PATIENCE)
            for _ in range(100):
                watcher.until(b"hi\r\n")
            assert stage.get().status == 200
            assert stage.server.registry.all() == [before]

            old.stop()
            assert stage.get().status == 200, "a request in the gap waits for the agent"
            assert stage.session is not before
            assert new.count("downstream_cx_active") >= 1
            assert watcher.ended() in ("closed", "reset")
