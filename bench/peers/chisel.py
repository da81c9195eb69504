"""chisel: a reverse tunnel of TCP inside SSH inside one WebSocket, with mutual TLS below it.

A connection of the client is a channel of SSH and a connection to the API, byte for byte: no HTTP, no header
rules, no credentials, no TLS to the API.
"""

from bench.ports import free_port
from bench.subject import Ground, Running, ready


def start(ground: Ground, program: str) -> Running:
    """Both ends; the agent asks for a port at the server (`R:`) that leads to its API."""
    port, internal = free_port(), f"127.0.0.1:{free_port()}"
    made, secret = ground.certificates, ("--auth", "bench:bench")
    server = [program, "server", "--host", "127.0.0.1", "--port", str(port), "--reverse", *secret]
    server += ["--tls-cert", str(made.server), "--tls-key", str(made.server_key), "--tls-ca", str(made.ca)]
    agent = [program, "client", *secret, "--tls-ca", str(made.ca), "--tls-cert", str(made.agent)]
    agent += ["--tls-key", str(made.agent_key), f"https://{ground.via(f'127.0.0.1:{port}')}"]
    agent += [f"R:{internal}:{ground.upstream.plain}"]
    children = {
        "server": ground.site.start("chisel-server", server),
        "agent": ground.site.start("chisel-agent", agent),
    }
    return ready(ground, Running(f"http://{internal}", children))
