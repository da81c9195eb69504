"""frp: a reverse tunnel of TCP in Go, yamux in mutual TLS.

A connection of the client is a stream and a connection to the API, byte for byte: no HTTP, no header rules,
no credentials, no TLS to the API.
"""

import json
from pathlib import Path

from bench.crowd import Crowd, listeners
from bench.ports import free_port
from bench.site import Child
from bench.subject import Ground, Running, ready


def start(ground: Ground, program: str) -> Running:
    """Both ends, `program` and frpc beside it; the agent has the server open a port that leads to its API."""
    tunnel, internal = free_port(), free_port()
    file = ground.site.write("frpc.json", _agent(ground, ground.via(f"127.0.0.1:{tunnel}"), internal))
    children = {
        "server": _server(ground, program, tunnel),
        "agent": ground.site.start("frp-agent", [_frpc(program), "-c", str(file)]),
    }
    return ready(ground, Running(f"http://127.0.0.1:{internal}", children))


def crowd(ground: Ground, program: str, count: int) -> Crowd:
    """So many agents, each with a port at the server: one for each file of a folder, as frpc has it.

    frpc dials again when it does by itself. It has no way to break all tunnels at once.
    """
    tunnel, ports = free_port(), [free_port() for _ in range(count)]
    folder = ground.site.folder / f"frpc-{tunnel}"
    folder.mkdir()
    for port in ports:
        ground.site.write(f"{folder.name}/{port}.json", _agent(ground, f"127.0.0.1:{tunnel}", port))
    return Crowd(
        hub=_server(ground, program, tunnel),
        agents=ground.site.start("frp-agents", [_frpc(program), "--config_dir", str(folder)]),
        port=tunnel,
        there=listeners(ports),
        cuts=False,
    )


def _frpc(program: str) -> str:
    return str(Path(program).with_name("frpc"))


def _server(ground: Ground, program: str, tunnel: int) -> Child:
    made = ground.certificates
    config = {
        "bindAddr": "127.0.0.1",
        "proxyBindAddr": "127.0.0.1",
        "bindPort": tunnel,
        "log": {"level": "error"},
        "transport": {
            "tls": {
                "force": True,
                "certFile": str(made.server),
                "keyFile": str(made.server_key),
                "trustedCaFile": str(made.ca),
            }
        },
    }
    file = ground.site.write("frps.json", json.dumps(config))
    return ground.site.start("frp-server", [program, "-c", str(file)])


def _agent(ground: Ground, dialled: str, internal: int) -> str:
    made = ground.certificates
    host, _, tunnel = dialled.rpartition(":")
    api, _, port = ground.upstream.plain.rpartition(":")
    config = {
        "serverAddr": host,
        "serverPort": int(tunnel),
        "loginFailExit": False,
        "log": {"level": "error"},
        "transport": {
            "tls": {
                "certFile": str(made.agent),
                "keyFile": str(made.agent_key),
                "trustedCaFile": str(made.ca),
            }
        },
        "proxies": [
            {
                "name": f"api-{internal}",
                "type": "tcp",
                "localIP": api,
                "localPort": int(port),
                "remotePort": internal,
            }
        ],
    }
    return json.dumps(config)
