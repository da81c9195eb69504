"""Rancher's remotedialer: one WebSocket with mutual TLS, streams of TCP on it, HTTP proxied by the server.

The library has no program of this kind, so `remotedialer/main.go` is one: what Rancher does, with TLS to
the API from the server through the tunnel.
"""

from bench.ports import free_port
from bench.subject import Ground, Running, ready


def start(ground: Ground, program: str) -> Running:
    """The server's reverse proxy and the agent that dials for it."""
    tunnel, internal = (f"127.0.0.1:{free_port()}" for _ in range(2))
    made = ground.certificates
    server = ["server", "-tunnel", tunnel, "-internal", internal, "-api", ground.upstream.tls]
    server += ["-ca", str(made.ca), "-cert", str(made.server), "-key", str(made.server_key)]
    agent = ["agent", "-tunnel", ground.via(tunnel), "-ca", str(made.ca)]
    agent += ["-cert", str(made.agent), "-key", str(made.agent_key)]
    children = {
        "server": ground.site.start("remotedialer-server", [program, *server]),
        "agent": ground.site.start("remotedialer-agent", [program, *agent]),
    }
    return ready(ground, Running(f"http://{internal}", children))
