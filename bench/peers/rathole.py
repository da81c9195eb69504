"""rathole: a reverse tunnel of TCP in Rust, of frp's kind, with TLS on the tunnel.

A connection of the client is a connection of the tunnel and one to the API, byte for byte: no HTTP, no
header rules, no credentials, no TLS to the API. So it is compared for what a tunnel alone may cost.
"""

import subprocess
from collections.abc import Sequence

from bench.crowd import Crowd, listeners
from bench.ports import free_port
from bench.site import Child
from bench.subject import Ground, Running, ready

_SERVER = """
[server]
bind_addr = "{tunnel}"
default_token = "bench"
[server.transport]
type = "tls"
[server.transport.tls]
pkcs12 = "{identity}"
pkcs12_password = "bench"
"""

_SERVED = """
[server.services.api-{port}]
bind_addr = "127.0.0.1:{port}"
"""

_AGENT = """
[client]
remote_addr = "{tunnel}"
default_token = "bench"
[client.transport]
type = "tls"
[client.transport.tls]
trusted_root = "{ca}"
hostname = "localhost"
"""

_CARRIED = """
[client.services.api-{port}]
local_addr = "{upstream}"
"""


def start(ground: Ground, program: str) -> Running:
    """Both ends; it knows no certificate of the agent, so the TLS of its tunnel is not mutual."""
    tunnel, internal = free_port(), free_port()
    children = {
        "server": _server(ground, program, tunnel, [internal]),
        "agent": _agent(ground, program, ground.via(f"127.0.0.1:{tunnel}"), [internal]),
    }
    return ready(ground, Running(f"http://127.0.0.1:{internal}", children))


def crowd(ground: Ground, program: str, count: int) -> Crowd:
    """One process with so many services: each dials by itself, when rathole does.

    A service has a connection for control, and eight more that wait for clients; the server does the
    handshakes of all of them one after the other. There is no way to break all tunnels at once.
    """
    tunnel, ports = free_port(), [free_port() for _ in range(count)]
    return Crowd(
        hub=_server(ground, program, tunnel, ports),
        agents=_agent(ground, program, f"127.0.0.1:{tunnel}", ports),
        port=tunnel,
        there=listeners(ports),
        cuts=False,
    )


def _server(ground: Ground, program: str, tunnel: int, ports: Sequence[int]) -> Child:
    made, identity = ground.certificates, ground.site.folder / "rathole.p12"
    bundle = ["openssl", "pkcs12", "-export", "-in", str(made.server), "-inkey", str(made.server_key)]
    subprocess.run([*bundle, "-out", str(identity), "-passout", "pass:bench"], check=True, timeout=30)
    words = _SERVER.format(tunnel=f"127.0.0.1:{tunnel}", identity=identity)
    config = ground.site.write(
        "rathole-server.toml", words + "".join(_SERVED.format(port=port) for port in ports)
    )
    return ground.site.start("rathole-server", [program, "--server", str(config)])


def _agent(ground: Ground, program: str, dialled: str, ports: Sequence[int]) -> Child:
    words = _AGENT.format(tunnel=dialled, ca=ground.certificates.ca)
    carried = (_CARRIED.format(port=port, upstream=ground.upstream.plain) for port in ports)
    config = ground.site.write("rathole-agent.toml", words + "".join(carried))
    return ground.site.start("rathole-agent", [program, "--client", str(config)])
