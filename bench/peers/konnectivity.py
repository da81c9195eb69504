"""Kubernetes' konnectivity: connections of TCP, asked for by HTTP CONNECT, as gRPC streams with mutual TLS.

A connection of the client is one to the API, byte for byte, as with chisel. Its front end takes nobody who
does not say CONNECT, and wrk does not, so a third process says it, at the server's Unix socket. That one is
in nobody's figure: neither among the children whose processor time counts, nor where memory does.
"""

from bench.crowd import Crowd, asked
from bench.ports import free_port
from bench.site import Child
from bench.subject import Ground, Running, ready

READY = "konnectivity_network_proxy_server_ready_backend_connections"


def start(ground: Ground, program: str) -> Running:
    """Server and agent, and the front beside them."""
    port, internal = free_port(), f"127.0.0.1:{free_port()}"
    path = f"{ground.site.folder}/konnectivity.sock"
    server = _server(ground, program, port, free_port(), path)
    own = [f"--admin-server-port={free_port()}", f"--health-server-port={free_port()}"]
    own += ["--health-server-host=127.0.0.1"]
    agent = _agent(ground, program, "agent", ground.via(f"127.0.0.1:{port}"), *own)
    front = [program, "front", "-listen", internal, "-proxy", path, "-api", ground.upstream.plain]
    ground.site.start("konnectivity-front", front)
    return ready(ground, Running(f"http://{internal}", {"server": server, "agent": agent}))


def crowd(ground: Ground, program: str, count: int) -> Crowd:
    """So many agents with an id each; they dial again when konnectivity's own program would."""
    port, admin = free_port(), free_port()
    path = f"{ground.site.folder}/konnectivity-crowd.sock"
    return Crowd(
        hub=_server(ground, program, port, admin, path),
        agents=_agent(ground, program, "agents", f"127.0.0.1:{port}", f"--count={count}"),
        port=port,
        there=lambda: int(metric(asked(f"127.0.0.1:{admin}", "/metrics"), READY)),
    )


def metric(text: str, name: str) -> float:
    """A figure without labels out of Prometheus' text, 0 where it is not there."""
    return next((float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} ")), 0.0)


def _server(ground: Ground, program: str, port: int, admin: int, path: str) -> Child:
    made = ground.certificates
    server = [program, "server", "--mode=http-connect", f"--uds-name={path}", "--server-port=0"]
    server += [f"--agent-port={port}", "--agent-bind-address=127.0.0.1", f"--admin-port={admin}"]
    server += [f"--health-port={free_port()}", "--health-bind-address=127.0.0.1"]
    server += [
        f"--cluster-cert={made.server}",
        f"--cluster-key={made.server_key}",
        f"--cluster-ca-cert={made.ca}",
    ]
    return ground.site.start("konnectivity-server", server)


def _agent(ground: Ground, program: str, role: str, dialled: str, *options: str) -> Child:
    made = ground.certificates
    host, _, port = dialled.rpartition(":")
    agent = [program, role, f"--proxy-server-host={host}", f"--proxy-server-port={port}", *options]
    agent += [f"--ca-cert={made.ca}", f"--agent-cert={made.agent}", f"--agent-key={made.agent_key}"]
    return ground.site.start(f"konnectivity-{role}", agent)
