"""Machines that are gone without a word while bytes are on their way to them, and readers that only look so.

Client, server, agent and two machines of the API are hosts of their own, with TLS on tunnel and API. Each
test loses one of them, or has it take nothing for longer than a silence may last.
"""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from gevent import socket

from tests.processes import Process
from tests.rig import Api, Gate, Peer, Script, until
from tests.survival import network
from tests.survival.network import ADDRESS, AGENT, API, CLIENT, SERVER, SPARE, Network
from tests.survival.test_long_links import take
from tests.survival.test_lost_tunnel import STARTED, UPGRADE, World, says

LACKING = network.missing()
pytestmark = pytest.mark.skipif(LACKING is not None, reason=f"needs {LACKING}")

LIMIT = 2.0
"""`--ack-timeout`, seconds."""

BIG = 24_000_000
"""More than all that is between two ends can hold, bytes."""

UNHEARD = r"nobody acknowledged \d+ bytes? for \d+ s"

NAME = "api.test"

# Both machines of the API have the name, for the agent alone.
AROUND = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"')


class Site:
    """The hosts and what runs there; `gate` is what the API waits for, where a path says so."""

    def __init__(self, folder: Path, net: Network) -> None:
        self.net = net
        self.gate = Gate()
        self._clients: list[Peer] = []
        self.world = World(folder, net, "--ack-timeout", f"{LIMIT:g}s")
        self.world.internal = (ADDRESS[SERVER], 8080)
        self.apis = {host: Api(self._script(host), host=ADDRESS[host]) for host in (API, SPARE)}
        port = 0
        for host, api in self.apis.items():
            api.port = port
            with net.inside(host):
                api.start(self.world._authority)
            port = api.port
        self.server = self.world.start_server()
        hosts = folder / "hosts"
        hosts.write_text("".join(f"{ADDRESS[host]} {NAME}\n" for host in self.apis))
        self.agent = self.world.start_agent(
            # Which machine a connection leads to is chosen anew for each client.
            *("--target", f"{NAME}:{port}", "--target-host-name", "127.0.0.1", "--idle-conns", "0"),
            around=(*AROUND, str(hosts)),
        )

    def close(self) -> None:
        self.world.close()
        for api in self.apis.values():
            api.close()

    def client(self) -> Peer:
        """A connection of the host `client`."""
        with self.net.inside(CLIENT):
            sock = socket.socket()
        sock.connect(self.world.internal)
        self._clients.append(Peer(sock))
        return self._clients[-1]

    def kept(self) -> tuple[Peer, str, str]:
        """A client whose connection to the API is kept; the machine that this leads to, and the other one."""
        client = self.client()
        here = ask(client)
        return client, here, SPARE if here == API else API

    def asked(self, word: bytes) -> bool:
        """Whether either machine of the API has seen a head with this in it."""
        return any(word in head for api in self.apis.values() for head in api.heads)

    def served(self) -> bool:
        """Whether a request gets through."""
        client = self.client()
        client.send(b"GET /tunnel/c1/ok HTTP/1.1\r\nHost: a\r\n\r\n")
        return client.response().status == 200

    def clear(self) -> None:
        """Close every client, and every connection to the API; one with a lost machine hears of no end."""
        for client in self._clients:
            client.close()
        self._clients.clear()
        for api in self.apis.values():
            for peer in list(api.live):
                peer.close()
            api.heads.clear()
        until(lambda: not any(self.net.talks(AGENT, host) for host in self.apis), "the end of all")

    def _script(self, host: str) -> Script:
        def script(peer: Peer) -> None:
            api = self.apis[host]
            while True:
                head = peer.head()
                api.heads.append(head)
                path = head.split(b" ")[1].partition(b"?")[0]
                if path == b"/watch":
                    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    while True:
                        peer.send(b"5\r\nevent\r\n")
                        gevent.sleep(0.05)
                if path == b"/exec":
                    peer.send(b"HTTP/1.1 101 Switching Protocols\r\n%b\r\n" % UPGRADE)
                    peer.rest()
                    return
                if path == b"/half":
                    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
                if path == b"/big":
                    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (BIG, bytes(BIG)))
                    continue
                if path == b"/patient":
                    self.gate.wait()
                length = re.search(rb"Content-Length: (\d+)", head)
                take(peer, int(length[1]) if length else 0)
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(host), host.encode()))

        return script


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Network(CLIENT, API, SPARE) as net:
        site = Site(tmp_path_factory.mktemp("gone"), net)
        try:
            yield site
        finally:
            site.close()


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    """Everything is there and works, and nothing is connected but the tunnel."""
    running.gate = Gate()
    yield running
    running.net.mend()
    running.gate.open()
    until(running.served, "an answer", STARTED, explain=lambda: running.agent.log)
    running.clear()


def ask(client: Peer, head: bytes = b"GET /tunnel/c1/ok") -> str:
    """Which machine of the API answers."""
    client.send(head + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = client.response()
    assert answer.status == 200, answer
    return answer.body.decode()


def begin(site: Site, path: bytes, size: int) -> tuple[Peer, str]:
    """An upload of which the API has the head only, on a new connection; and which machine has it."""
    client = site.client()
    client.send(b"POST /tunnel/c1%b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (path, size))
    until(lambda: site.asked(b"POST " + path), "the head")
    return client, next(host for host, api in site.apis.items() if api.heads)


# ── the API ────────────────────────────────────────────────────────────────────────────────────


def test_a_get_on_a_kept_connection_is_asked_of_another_machine(site: Site) -> None:
    client, gone, there = site.kept()
    site.net.lose(gone)
    assert ask(client) == there


def test_a_get_is_asked_again_as_soon_as_any_machine_is_reached(site: Site) -> None:
    """Not before: while nothing answers, the client hears that its request reached nobody."""
    client, gone, there = site.kept()
    site.net.lose(gone)
    site.net.lose(there)
    client.send(b"GET /tunnel/c1/ok HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = client.response()
    assert (answer.status, answer.header("retry-after")) == (503, "1")
    site.net.mend()
    assert ask(client) in (gone, there)


def test_a_post_on_a_kept_connection_is_given_back_and_never_delivered(site: Site) -> None:
    """Also not by the kernel, which would go on repeating it until the machine is back."""
    client, gone, _ = site.kept()
    site.net.lose(gone)
    client.send(b"POST /tunnel/c1/ok HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}")
    assert client.ended() == "reset"
    assert client.buffer == b""
    assert not site.net.talks(AGENT, gone)
    site.net.mend()
    assert ask(site.client()) in site.apis
    assert not site.asked(b"POST")


def test_a_request_that_the_api_may_have_gets_a_502_that_says_why(site: Site) -> None:
    client, gone = begin(site, b"/upload", 1000)
    site.net.lose(gone)
    client.send(bytes(1000))
    answer = client.response()
    assert (answer.status, answer.header("retry-after")) == (502, None)
    assert re.fullmatch(f"argotun: the API connection was lost: {UNHEARD}", answer.json()["message"])


def test_an_answer_that_has_begun_is_cut(site: Site) -> None:
    client, gone = begin(site, b"/half", 1000)
    client.until(b"half")
    site.net.lose(gone)
    client.send(bytes(1000))
    assert client.ended() == "reset"


def test_an_exec_ends(site: Site) -> None:
    client = site.client()
    client.send(b"POST /tunnel/c1/exec HTTP/1.1\r\nHost: a\r\n%b\r\n" % UPGRADE)
    assert client.response().status == 101
    gone = next(host for host, api in site.apis.items() if api.heads)
    site.net.lose(gone)
    client.send(b"typed into nothing")
    client.ended()
    until(lambda: not site.net.talks(AGENT, gone), "the end of the connection")


# ── the tunnel ─────────────────────────────────────────────────────────────────────────────────


def test_a_tunnel_ends_on_both_sides_and_is_dialled_again(site: Site) -> None:
    """Long before `--keepalive-timeout`: both have bytes on their way."""
    watch = site.client()
    watch.send(b"GET /tunnel/c1/watch HTTP/1.1\r\nHost: a\r\n\r\n")
    watch.until(b"event")
    client = site.client()
    site.net.lose(AGENT)
    client.send(b"GET /tunnel/c1/ok HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = client.response()
    assert (answer.status, answer.header("retry-after")) == (502, None)
    message = answer.json()["message"]
    assert re.fullmatch(f"argotun: the tunnel was lost: connection lost: {UNHEARD}", message)
    assert watch.ended() == "reset"
    says(site.server, f"agent gone: connection lost: {UNHEARD}")
    says(site.agent, f"the tunnel ended: connection lost: {UNHEARD}")
    site.net.mend()
    # The agent goes on for nobody: what the API still says of the watch is answered with a reset.
    until(lambda: not any(api.live for api in site.apis.values()), "the end of the connections to the API")


# ── the client ─────────────────────────────────────────────────────────────────────────────────


def given_up(server: Process) -> int:
    return len(re.findall(f"a client was given up: {UNHEARD}", server.log))


def test_a_watch_of_a_client_that_is_gone_frees_its_stream(site: Site) -> None:
    before = given_up(site.server)
    client = site.client()
    client.send(b"GET /tunnel/c1/watch?secret=x HTTP/1.1\r\nHost: a\r\n\r\n")
    client.until(b"event")
    site.net.lose(CLIENT)
    until(lambda: given_up(site.server) > before, "the end", explain=lambda: site.server.log)
    assert "secret=x" not in site.server.log
    until(lambda: not any(api.live for api in site.apis.values()), "the end of the connection to the API")
    assert not site.net.talks(SERVER, CLIENT)


def test_a_whole_answer_that_nobody_takes_frees_its_stream(site: Site) -> None:
    """The request is over, and only the kernel knows that its answer did not arrive."""
    before = given_up(site.server)
    client = site.client()
    client.send(b"GET /tunnel/c1/patient HTTP/1.1\r\nHost: a\r\n\r\n")
    until(lambda: site.asked(b"/patient"), "the request")
    site.net.lose(CLIENT)
    site.gate.open()
    until(lambda: given_up(site.server) > before, "the end", explain=lambda: site.server.log)
    until(lambda: not any(api.live for api in site.apis.values()), "the end of the connection to the API")


def test_a_client_that_is_gone_behind_a_closed_window_is_given_up(site: Site) -> None:
    before = given_up(site.server)
    client = site.client()
    client.send(b"GET /tunnel/c1/big HTTP/1.1\r\nHost: a\r\n\r\n")
    gevent.sleep(LIMIT)
    site.net.lose(CLIENT)
    until(lambda: given_up(site.server) > before, "the end", STARTED, explain=lambda: site.server.log)


# ── readers that are slow ──────────────────────────────────────────────────────────────────────


def test_a_client_that_reads_nothing_for_long_gets_all_of_it(site: Site) -> None:
    client = site.client()
    client.send(b"GET /tunnel/c1/big HTTP/1.1\r\nHost: a\r\n\r\n")
    gevent.sleep(4 * LIMIT)
    client.head()
    take(client, BIG)


def test_an_api_that_reads_nothing_for_long_gets_all_of_it(site: Site) -> None:
    client, there = begin(site, b"/patient", BIG)
    upload = gevent.spawn(client.send, bytes(BIG))
    gevent.sleep(4 * LIMIT)
    assert not upload.ready()
    site.gate.open()
    assert client.response().body.decode() == there


def test_an_agent_that_reads_nothing_for_long_gets_all_of_it(site: Site) -> None:
    client, there = begin(site, b"/upload", BIG)
    site.agent.signal(signal.SIGSTOP)
    try:
        upload = gevent.spawn(client.send, bytes(BIG))
        gevent.sleep(4 * LIMIT)
        assert not upload.ready()
    finally:
        site.agent.signal(signal.SIGCONT)
    assert client.response().body.decode() == there


def test_a_server_that_reads_nothing_for_long_gets_all_of_it(site: Site) -> None:
    client = site.client()
    client.send(b"GET /tunnel/c1/big HTTP/1.1\r\nHost: a\r\n\r\n")
    client.until(b"\r\n\r\n")
    site.server.signal(signal.SIGSTOP)
    try:
        gevent.sleep(4 * LIMIT)
    finally:
        site.server.signal(signal.SIGCONT)
    take(client, BIG)
