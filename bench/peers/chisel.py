"""chisel: a reverse tunnel of TCP inside SSH inside one WebSocket, with mutual TLS below it.

A connection of the client is a channel of SSH and a connection to the API, byte for byte: no HTTP, no header
rules, no credentials, no TLS to the API.
"""

from bench.crowd import Crowd, listeners
from bench.peers import programs
from bench.ports import free_port
from bench.site import Child
from bench.subject import Ground, Running, ready

_SECRET = "bench:bench"


def start(ground: Ground, program: str) -> Running:
    """Both ends; the agent asks for a port at the server (`R:`) that leads to its API."""
    port, internal = free_port(), f"127.0.0.1:{free_port()}"
    agent = [program, "client", "--auth", _SECRET, *_identity(ground)]
    agent += [f"https://{ground.via(f'127.0.0.1:{port}')}", f"R:{internal}:{ground.upstream.plain}"]
    children = {
        "server": _server(ground, program, port),
        "agent": ground.site.start("chisel-agent", agent),
    }
    return ready(ground, Running(f"http://{internal}", children))


def crowd(ground: Ground, program: str, count: int) -> Crowd:
    """So many clients, each with a port at the server; they dial again when chisel's own program would."""
    many, port = programs.beside(program, programs.CHISEL_AGENTS), free_port()
    ports = [free_port() for _ in range(count)]
    agents = [many, "--auth", _SECRET, *_identity(ground), "--server", f"https://127.0.0.1:{port}"]
    agents += [f"R:127.0.0.1:{each}:{ground.upstream.plain}" for each in ports]
    return Crowd(
        hub=_server(ground, program, port),
        agents=ground.site.start("chisel-agents", agents),
        port=port,
        there=listeners(ports),
    )


def _server(ground: Ground, program: str, port: int) -> Child:
    made = ground.certificates
    server = [program, "server", "--host", "127.0.0.1", "--port", str(port), "--reverse", "--auth", _SECRET]
    server += ["--tls-cert", str(made.server), "--tls-key", str(made.server_key), "--tls-ca", str(made.ca)]
    return ground.site.start("chisel-server", server)


def _identity(ground: Ground) -> list[str]:
    made = ground.certificates
    return ["--tls-ca", str(made.ca), "--tls-cert", str(made.agent), "--tls-key", str(made.agent_key)]
