"""Kubernetes' konnectivity: connections of TCP, asked for by HTTP CONNECT, as gRPC streams with mutual TLS.

A connection of the client is one to the API, byte for byte, as with chisel. Its front end takes nobody who
does not say CONNECT, and wrk does not, so a third process says it, at the server's Unix socket. That one is
in nobody's figure: neither among the children whose processor time counts, nor where memory does.
"""

from bench.ports import free_port
from bench.subject import Ground, Running, ready


def start(ground: Ground, program: str) -> Running:
    """Server and agent, and the front beside them."""
    port, internal = free_port(), f"127.0.0.1:{free_port()}"
    made, path = ground.certificates, f"{ground.site.folder}/konnectivity.sock"
    server = [program, "server", "--mode=http-connect", f"--uds-name={path}", "--server-port=0"]
    server += [f"--agent-port={port}", "--agent-bind-address=127.0.0.1", f"--admin-port={free_port()}"]
    server += [f"--health-port={free_port()}", "--health-bind-address=127.0.0.1"]
    server += [
        f"--cluster-cert={made.server}",
        f"--cluster-key={made.server_key}",
        f"--cluster-ca-cert={made.ca}",
    ]
    host, _, dialled = ground.via(f"127.0.0.1:{port}").rpartition(":")
    agent = [program, "agent", f"--proxy-server-host={host}", f"--proxy-server-port={dialled}"]
    agent += [f"--ca-cert={made.ca}", f"--agent-cert={made.agent}", f"--agent-key={made.agent_key}"]
    agent += [f"--admin-server-port={free_port()}", f"--health-server-port={free_port()}"]
    agent += ["--health-server-host=127.0.0.1"]
    front = [program, "front", "-listen", internal, "-proxy", path, "-api", ground.upstream.plain]
    children = {
        "server": ground.site.start("konnectivity-server", server),
        "agent": ground.site.start("konnectivity-agent", agent),
    }
    ground.site.start("konnectivity-front", front)
    return ready(ground, Running(f"http://{internal}", children))
