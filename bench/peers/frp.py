"""frp: a reverse tunnel of TCP in Go, yamux in mutual TLS.

A connection of the client is a stream and a connection to the API, byte for byte: no HTTP, no header rules,
no credentials, no TLS to the API.
"""

import json
from pathlib import Path

from bench.ports import free_port
from bench.subject import Ground, Running, ready


def start(ground: Ground, program: str) -> Running:
    """Both ends, `program` and frpc beside it; the agent has the server open a port that leads to its API."""
    tunnel, internal = free_port(), free_port()
    made = ground.certificates
    host, _, dialled = ground.via(f"127.0.0.1:{tunnel}").rpartition(":")
    api, _, port = ground.upstream.plain.rpartition(":")
    trust = {"trustedCaFile": str(made.ca)}
    server = {
        "bindAddr": "127.0.0.1",
        "proxyBindAddr": "127.0.0.1",
        "bindPort": tunnel,
        "log": {"level": "error"},
        "transport": {
            "tls": {"force": True, "certFile": str(made.server), "keyFile": str(made.server_key), **trust}
        },
    }
    agent = {
        "serverAddr": host,
        "serverPort": int(dialled),
        "loginFailExit": False,
        "log": {"level": "error"},
        "transport": {"tls": {"certFile": str(made.agent), "keyFile": str(made.agent_key), **trust}},
        "proxies": [
            {"name": "api", "type": "tcp", "localIP": api, "localPort": int(port), "remotePort": internal}
        ],
    }
    children = {}
    for name, with_it, config in (("server", "frps", server), ("agent", "frpc", agent)):
        file = ground.site.write(f"{with_it}.json", json.dumps(config))
        command = [str(Path(program).with_name(with_it)), "-c", str(file)]
        children[name] = ground.site.start(f"frp-{name}", command)
    return ready(ground, Running(f"http://127.0.0.1:{internal}", children))
