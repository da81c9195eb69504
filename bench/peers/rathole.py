"""rathole: a reverse tunnel of TCP in Rust, of frp's kind, with TLS on the tunnel.

A connection of the client is a connection of the tunnel and one to the API, byte for byte: no HTTP, no
header rules, no credentials, no TLS to the API. So it is compared for what a tunnel alone may cost.
"""

import subprocess

from bench.ports import free_port
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
[server.services.api]
bind_addr = "{internal}"
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
[client.services.api]
local_addr = "{upstream}"
"""


def start(ground: Ground, program: str) -> Running:
    """Both ends; it knows no certificate of the agent, so the TLS of its tunnel is not mutual."""
    made, identity = ground.certificates, ground.site.folder / "rathole.p12"
    bundle = ["openssl", "pkcs12", "-export", "-in", str(made.server), "-inkey", str(made.server_key)]
    subprocess.run([*bundle, "-out", str(identity), "-passout", "pass:bench"], check=True, timeout=30)
    tunnel, internal = (f"127.0.0.1:{free_port()}" for _ in range(2))
    children = {}
    for role, text in (("server", _SERVER), ("agent", _AGENT)):
        words = text.format(
            tunnel=tunnel if role == "server" else ground.via(tunnel),
            internal=internal,
            upstream=ground.upstream.plain,
            identity=identity,
            ca=made.ca,
        )
        config = ground.site.write(f"rathole-{role}.toml", words)
        flag = "--server" if role == "server" else "--client"
        children[role] = ground.site.start(f"rathole-{role}", [program, flag, str(config)])
    return ready(ground, Running(f"http://{internal}", children))
