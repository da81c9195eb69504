"""The metrics of old under their names, types and labels, after traffic that each of them counts."""

import re

from gevent import socket

from tests.rig import Peer, Rig, until

AGENT = {"health_addr": ("127.0.0.1", 0)}


def samples(text: str) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    }


def of_server(rig: Rig) -> dict[str, float]:
    return samples(rig.get("/metrics").body.decode())


def of_agent(rig: Rig) -> dict[str, float]:
    assert rig.agent.health is not None
    with socket.create_connection(rig.agent.health.address) as sock:
        peer = Peer(sock)
        peer.send(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return samples(peer.response().body.decode())


def test_the_servers_counts_miss_no_request() -> None:
    with Rig(server={"rate_limit": 0.01}) as rig:
        client = rig.client()
        assert rig.get(client=client).status == 200
        assert rig.get(client=client).status == 429
        until(lambda: of_server(rig)['tunnel_active_connections{cluster="c1"}'] == 1, "the open stream")
        seen = of_server(rig)
        assert seen['proxy_requests_total{cluster="c1",method="GET",status="200"}'] == 1
        assert seen['proxy_request_duration_seconds_count{cluster="c1"}'] >= 1
        assert seen['proxy_request_duration_seconds_bucket{cluster="c1",le="+Inf"}'] >= 1
        assert seen["agents_connected"] == 1
        assert seen["proxy_rate_limited_total"] == 1


def test_the_agents_counts_miss_no_request() -> None:
    with Rig(agent=AGENT) as rig:
        assert rig.get().status == 200
        seen = of_agent(rig)
        assert seen["agent_connected"] == 1
        assert seen["agent_upstream_requests_total"] == 1
        assert seen["agent_upstream_errors_total"] == 0
        dialled = seen["agent_reconnects_total"]
        rig.api.stop()
        assert rig.get().status == 503
        assert of_agent(rig)["agent_upstream_errors_total"] == 1
        rig.server.stop()
        until(lambda: of_agent(rig)["agent_connected"] == 0, "the loss of the tunnel")
        until(lambda: of_agent(rig)["agent_reconnects_total"] > dialled, "another attempt")


def test_a_cluster_that_left_takes_its_series_with_it() -> None:
    with Rig() as rig:
        assert rig.get().status == 200
        rig.write_clusters([{"id": "c2", "token": "token-of-agent-c2"}])
        until(lambda: "c2" in rig.server.clusters.clusters, "the clusters file being read again")

        def shown() -> str:
            return rig.get("/metrics").body.decode()

        until(lambda: not re.search(r'cluster="c1"', shown()), "the end of what was c1's")
        text = shown()
        assert 'tunnel_active_connections{cluster="c2"} 0.0' in text
