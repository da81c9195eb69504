"""A cluster that gives Argo CD single namespaces: 45 of them with 31 kinds are 1,395 watches.

All of them through one agent, with every option at its default: server and agent are processes, with TLS on
the tunnel and to the API. What they may have is what the chart gives them.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import Process, RemoteServer
from tests.rig import Api, Peer, Rig, until

NAMESPACES, KINDS = 45, 31
AT_ONCE = 50
SERVER_MIB, AGENT_MIB = 128, 160
"""Of resident memory: well below the limits of the chart, 1 GiB and 256 MiB."""

EVENT = b"5\r\nevent\r\n"


def script(peer: Peer) -> None:
    while True:
        if b"watch=1" in peer.head():
            peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + EVENT)
            # However long it takes to open the others.
            peer.sock.recv(1)
            return
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nnamespaces")


@pytest.fixture
def processes() -> Iterator[tuple[RemoteServer, Process]]:
    with Rig(Api(script), mutual=False, agent=None) as rig:
        path = rig.authority.path
        clusters = json.dumps([{"id": "c1", "token": rig.TOKEN}])
        server = Process(
            "--mode", "server", "--addr", "127.0.0.1:0", "--internal-addr", "127.0.0.1:0", "--internal-plain",
            "--clusters", clusters, "--tls-cert", path("server.pem"), "--tls-key", path("server.key"),
            "--no-access-log",
        )  # fmt: skip
        remote = RemoteServer(server)
        agent = Process(
            "--mode", "agent", "--server", f"wss://127.0.0.1:{remote.public_address[1]}/connect",
            "--token", rig.TOKEN, "--server-ca-cert", path("ca.pem"), "--target", f"127.0.0.1:{rig.api.port}",
            "--ca-cert", path("ca.pem"), "--sa-token-path", str(rig.token_file),
            "--health-addr", "127.0.0.1:0", "--no-access-log",
        )  # fmt: skip
        agent.says("connected")
        until(lambda: remote.ready() == 200, "readiness")
        yield remote, agent
        remote.close()
        agent.close()
        server.close()


def resident(process: Process) -> float:
    """MiB of memory at most so far."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def test_every_kind_of_many_namespaces_is_watched_and_there_is_room(
    processes: tuple[RemoteServer, Process],
) -> None:
    server, agent = processes
    before = resident(server.process), resident(agent)
    targets = [f"/apis/g{kind}/v1/namespaces/n{at}/x" for at in range(NAMESPACES) for kind in range(KINDS)]
    # Some at a time, as Argo CD does: the API is in this process, and shakes hands with one after the other.
    for at in range(0, len(targets), AT_ONCE):
        watches = [
            server.client(f"GET /tunnel/c1{target}?watch=1 HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            for target in targets[at : at + AT_ONCE]
        ]
        for watch in watches:
            assert watch.head().startswith(b"HTTP/1.1 200 ")
            watch.until(EVENT)
    client = server.client(b"GET /tunnel/c1/api/v1/namespaces HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.response().body == b"namespaces"
    more = server.client(b"GET /tunnel/c1/api/v1/namespaces?watch=1 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert more.head().startswith(b"HTTP/1.1 200 ")
    taken = resident(server.process), resident(agent)
    print(f"server {before[0]:.0f} to {taken[0]:.0f} MiB, agent {before[1]:.0f} to {taken[1]:.0f} MiB")
    assert taken[0] < SERVER_MIB
    assert taken[1] < AGENT_MIB
