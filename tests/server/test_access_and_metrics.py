"""What an operator sees of requests that went through: counters, access lines, and no secret anywhere."""

import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from gevent import socket

from argotun.observe.access import AccessLog
from tests.rig import Api, Peer, Rig, until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CREATED = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
MISSING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


class Site(Rig):
    """A rig that remembers the heads its API saw and what both access logs said."""

    def __init__(self, **options: object) -> None:
        super().__init__(Api(self._script), **options)  # type: ignore[arg-type]
        self._files = {who: open(self.folder / f"{who}.log", "w") for who in ("server", "agent")}  # noqa: SIM115

    def _script(self, peer: Peer) -> None:
        while True:
            head = peer.head()
            self.api.heads.append(head)
            peer.send(CREATED if head.startswith(b"POST") else MISSING if b"/missing" in head else OK)

    def start_server(self, **options: object):  # type: ignore[no-untyped-def]
        server = super().start_server(**options)
        server.access = server.metrics.access_log = AccessLog(True, "text", self._files["server"])
        server.clients._report = server.access.request
        return server

    def make_agent(self, **options: object):  # type: ignore[no-untyped-def]
        agent = super().make_agent(**options)
        agent.access = AccessLog(True, "text", self._files["agent"])
        agent._report = agent.access.request
        return agent

    def said(self, who: str, count: int) -> list[dict[str, str]]:
        """The access lines, once there are so many, as their fields."""
        until(lambda: self.text(who).count("\n") >= count, f"{count} access lines")
        return [dict(re.findall(r"(\w+)=(\S+)", line)) for line in self.text(who).splitlines()]

    def text(self, who: str) -> str:
        """All access lines of a side."""
        return (self.folder / f"{who}.log").read_text()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for file in self._files.values():
            file.close()

    def counter(self, name: str, role: str = "server") -> float:
        """One sample, named with its labels as the exposition has it."""
        metrics = self.server.metrics if role == "server" else self.agent.metrics
        for line in metrics.exposition()[0].decode().splitlines():
            if line.startswith(name + " "):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"{name} is not exposed")


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


def test_every_request_is_counted_by_cluster_method_and_status(site: Site) -> None:
    client = site.client()
    for _ in range(7):
        assert site.get(client=client).status == 200
    for _ in range(3):
        assert site.get("/tunnel/c1/missing", client=client).status == 404
    client.send(b"POST /tunnel/c1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
    assert client.response().status == 201

    assert site.counter('proxy_requests_total{cluster="c1",method="GET",status="200"}') == 7
    assert site.counter('proxy_requests_total{cluster="c1",method="GET",status="404"}') == 3
    assert site.counter('proxy_requests_total{cluster="c1",method="POST",status="201"}') == 1
    assert site.counter('proxy_request_duration_seconds_count{cluster="c1"}') == 11
    assert site.counter("agent_upstream_requests_total", "agent") == 11
    assert site.counter("agents_connected") == 1
    assert site.counter("agent_connected", "agent") == 1


def test_payload_bytes_are_counted_on_both_sides(site: Site) -> None:
    client = site.client()
    client.send(b"POST /tunnel/c1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n" + bytes(50000))
    client.response()
    for role, labels in (("server", 'cluster="c1",'), ("agent", "")):
        up = site.counter(f'argotun_payload_bytes_total{{{labels}direction="to_cluster"}}', role)
        down = site.counter(f'argotun_payload_bytes_total{{{labels}direction="from_cluster"}}', role)
        assert 50000 < up < 51000, role
        assert 0 < down < 1000, role


def test_requests_to_an_unknown_cluster_make_no_series(site: Site) -> None:
    for name in ("nobody", "c1x", "C1"):
        assert site.get(f"/tunnel/{name}/x").status == 503
    assert b"nobody" not in site.server.metrics.exposition()[0]
    assert b'cluster="C1"' not in site.server.metrics.exposition()[0]


def test_open_streams_are_counted_and_the_round_trip_measured(site: Site) -> None:
    site.get(client=site.client())
    until(lambda: site.counter('tunnel_active_connections{cluster="c1"}') == 1, "the gauge")
    until(lambda: site.counter("argotun_active_streams", "agent") == 1, "the agent's gauge")
    until(lambda: site.session.tunnel.rtt, "the round trip")
    assert site.counter('argotun_tunnel_rtt_seconds{cluster="c1"}') > 0


def test_one_audit_id_is_in_both_lines_and_at_the_api(site: Site) -> None:
    assert site.get("/tunnel/c1/api/v1/pods?limit=500&token=secret").status == 200
    (server,), (agent,) = site.said("server", 1), site.said("agent", 1)
    at_api = re.findall(rb"Audit-ID: (\S+)\r\n", site.api.heads[0])
    assert [server["audit_id"].encode()] == at_api
    assert agent["audit_id"] == server["audit_id"]
    for line in (server, agent):
        assert line["cluster"] == "c1"
        assert (line["method"], line["path"], line["status"]) == ("GET", "/api/v1/pods", "200")
        assert line["stream"] == "1"
        assert int(line["bytes_in"]) > 0
        assert int(line["bytes_out"]) > 0
        assert float(line["seconds"]) > 0


def test_a_valid_audit_id_of_the_client_is_kept_and_a_bad_one_is_not(site: Site) -> None:
    site.get(extra=b"Audit-ID: mine-1\r\n")
    site.get(extra=b"Audit-ID: two words\r\n")
    site.get(extra=b"Audit-ID: a\r\nAudit-ID: b\r\n")
    lines = site.said("server", 3)
    assert lines[0]["audit_id"] == "mine-1"
    at_api = [re.findall(rb"(?i)Audit-ID: (.*)\r\n", head) for head in site.api.heads]
    assert [[line["audit_id"].encode()] for line in lines] == at_api
    assert len({line["audit_id"] for line in lines}) == 3


def test_a_request_that_was_refused_has_a_line_too(site: Site) -> None:
    site.agent.stop()
    until(lambda: len(site.server.registry) == 0, "the end of the session")
    assert site.get("/tunnel/c1/x").status == 503
    (line,) = site.said("server", 1)
    assert (line["status"], line["stream"]) == ("503", "0")


def test_a_client_that_leaves_is_a_499(site: Site) -> None:
    site.api.script = lambda peer: peer.head() and peer.ended() and None
    client = site.client()
    client.send(b"GET /tunnel/c1/slow HTTP/1.1\r\nHost: a\r\n\r\n")
    until(lambda: site.api.live, "the connection to the API")
    client.close()
    (line,) = site.said("server", 1)
    assert line["status"] == "499"


def test_no_credential_is_in_any_log_or_metric(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = (
        "token-of-agent-c1",
        "sa-token-2",
        "argo-secret",
        "query-secret",
        "other-token",
        "cookie-secret",
    )
    with Site() as site:
        site.token_file.write_text("sa-token-2")
        site.get(
            "/tunnel/c1/x?access_token=query-secret",
            b"Authorization: Bearer argo-secret\r\nCookie: a=cookie-secret\r\n",
        )
        assert b"Bearer sa-token-2" in site.api.heads[0]
        site.make_agent(token="other-token").start()
        until(lambda: "an agent was refused" in caplog.text, "the refusal")
        site.token_file.write_text("")
        assert site.get().status == 502
        site.token_file.write_text("sa-token-2 with\ncharacters")
        assert site.get().status == 502
        status = site.client()
        status.send(b"GET /status HTTP/1.1\r\nHost: a\r\n\r\n")
        shown = [
            caplog.text,
            status.response().body.decode(),
            site.server.metrics.exposition()[0].decode(),
            site.agents[0].metrics.exposition()[0].decode(),
            str(site.agents[0]._status()),
            site.text("server"),
            site.text("agent"),
        ]
        site.server.config = replace(site.server.config, drain=0.5)
        site.server.drain()
        shown.append(caplog.text)
    for text in shown:
        for secret in secrets:
            assert secret not in text, secret


def test_the_health_port_names_clusters_and_callers_and_no_address() -> None:
    """Prometheus scrapes it: series have to say whose they are. Where anybody is, it says to nobody."""
    with Rig(server={"health_addr": ("127.0.0.1", 0)}) as rig:
        assert rig.get().status == 200
        assert rig.server._health is not None
        host, port = rig.server._health.address
        said = {}
        for path in ("/metrics", "/status"):
            peer = rig.keep(Peer(socket.create_connection((host, port))))
            peer.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            said[path] = peer.rest()
        assert b'argotun_tunnel_sessions{cluster="c1"} 1' in said["/metrics"]
        assert b'argotun_caller_requests_total{caller="none"} 1' in said["/metrics"]
        assert b"c1" not in said["/status"]
        for text in said.values():
            assert b"127.0.0.1" not in text
