"""Rancher's remotedialer: one WebSocket with mutual TLS, streams of TCP on it, HTTP proxied by the server.

The library has no program of this kind, so `remotedialer/main.go` is one: what Rancher does, with TLS to
the API from the server through the tunnel.
"""

from bench.crowd import Crowd, asked
from bench.ports import free_port
from bench.site import Child
from bench.subject import Ground, Running, ready


def start(ground: Ground, program: str) -> Running:
    """The server's reverse proxy and the agent that dials for it."""
    tunnel, internal = (f"127.0.0.1:{free_port()}" for _ in range(2))
    children = {
        "server": _server(ground, program, tunnel, internal),
        "agent": _agent(ground, program, "agent", ground.via(tunnel)),
    }
    return ready(ground, Running(f"http://{internal}", children))


def crowd(ground: Ground, program: str, count: int) -> Crowd:
    """So many agents, each of a cluster of its own, which dial again after 100 ms, as the one does."""
    port, internal = free_port(), f"127.0.0.1:{free_port()}"
    tunnel = f"127.0.0.1:{port}"
    return Crowd(
        hub=_server(ground, program, tunnel, internal),
        agents=_agent(ground, program, "agents", tunnel, "-count", str(count)),
        port=port,
        there=lambda: int(asked(internal, "/-/agents")),
    )


def _server(ground: Ground, program: str, tunnel: str, internal: str) -> Child:
    made = ground.certificates
    server = ["server", "-tunnel", tunnel, "-internal", internal, "-api", ground.upstream.tls]
    server += ["-ca", str(made.ca), "-cert", str(made.server), "-key", str(made.server_key)]
    return ground.site.start("remotedialer-server", [program, *server])


def _agent(ground: Ground, program: str, role: str, dialled: str, *options: str) -> Child:
    made = ground.certificates
    agent = [role, "-tunnel", dialled, "-ca", str(made.ca), *options]
    agent += ["-cert", str(made.agent), "-key", str(made.agent_key)]
    return ground.site.start(f"remotedialer-{role}", [program, *agent])
