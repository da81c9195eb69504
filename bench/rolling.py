"""Replace a server under load: a new one comes up, the old one drains, and requests are counted.

With `--replicas 3` there are so many of each, which share a registry, and they are replaced one after the
other.

Servers stand behind one haproxy in TCP mode, as behind a Service: agents come in by one port, clients
by the other. Clients behave as client-go does: connections are kept; `Retry-After` is respected; a GET
whose connection ended without a byte of the answer is repeated; a POST is not.

    python -m bench.rolling --requests 10000 --rate 200
"""

if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()

import argparse
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gevent
from gevent import socket
from gevent.server import StreamServer

from argotun.wire.body import chunk
from bench import echo, machine, results
from bench.errors import BenchError
from bench.ports import free_port
from bench.registry import Registry
from bench.site import Child, Site, end_on_sigterm, wait_until

CLONE = Path(__file__).resolve().parent.parent
PROGRAM = [sys.executable, str(CLONE / "argotun.py")]
CLUSTER, TOKEN, ACCOUNT = "c1", "token-of-the-rolling-agent", "sa-token"
POSTS = 5  # every fifth request has a body, and is never repeated by the client on its own
WATCHES = 4
CONNECT_LIMIT = ANSWER_LIMIT = 10.0  # seconds
ATTEMPTS = 10  # client-go's own limit of repetitions
HEARTBEAT = 0.1  # seconds between two events of a watch

# A server takes part as soon as one check passed and until five have failed: while the agents change over
# there is always one that clients are sent to. Agents come before a server is ready, since their coming is
# what makes it ready: for them it counts that it listens.
HAPROXY = """
global
    maxconn 4000
defaults
    mode tcp
    timeout connect 1s
    timeout client 1h
    timeout server 1h
    timeout check 1s
    retries {retries}
    option redispatch 1
    default-server inter 100ms fastinter 100ms downinter 100ms fall 5 rise 1
frontend agents
    bind 127.0.0.1:{agents}
    default_backend agents
frontend clients
    bind 127.0.0.1:{clients}
    default_backend clients
backend agents
    balance leastconn
{agent_servers}
backend clients
    option httpchk GET /readyz
    http-check expect status 200
{client_servers}
"""


@dataclass
class Outcome:
    """What became of the requests; `lost` says for each lost one how."""

    sent: int = 0
    answered: int = 0
    lost: list[str] = field(default_factory=list)
    repeated: Counter[str] = field(default_factory=Counter)
    by_server: Counter[str] = field(default_factory=Counter)
    watches_ended: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    exit_code: int | None = None
    drained: float = 0.0
    under_load: bool = False

    def __str__(self) -> str:
        lines = [
            f"{self.answered} of {self.sent} requests answered, {len(self.lost)} lost",
            f"repeated by the client: {dict(self.repeated) or 'none'}",
            f"watches ended: {dict(self.watches_ended) or 'none'}",
            f"slowest answer {self.slowest * 1000:.0f} ms; the old server ended with {self.exit_code} "
            f"after {self.drained:.1f} s",
        ]
        return "\n".join(lines + [f"LOST {how}" for how in self.lost[:20]])


class Api:
    """A stand-in for the Kubernetes API: each answer and each event says whose it is."""

    def __init__(self) -> None:
        self._server = StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()
        self.address = f"127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.stop(timeout=0)

    def _serve(self, sock: Any, _peer: object) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = sock.makefile("rb")
        try:
            while line := stream.readline():
                length, head = 0, line
                while (header := stream.readline()).strip():
                    head += header
                    if header.lower().startswith(b"content-length:"):
                        length = int(header.split(b":")[1])
                stream.read(length)
                if b"watch=1" in line:
                    self._watch(sock, line.split(b" ")[1])
                    return
                sock.sendall(echo.echo(head))
        except OSError:
            pass

    def _watch(self, sock: Any, target: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            sock.sendall(chunk(target))
            gevent.sleep(HEARTBEAT)


class Connection:
    """One kept connection of a client."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.sock = socket.create_connection(address, timeout=CONNECT_LIMIT)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.settimeout(ANSWER_LIMIT)
        self.reused = False
        self.data = b""

    @property
    def fresh_or_open(self) -> bool:
        """Whether the server has not ended it while it was idle, as far as can be told now."""
        try:
            return self.sock._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send and read one answer; EOFError when the connection ends before it is whole."""
        self.data = b""
        self.sock.sendall(request)
        head = self._until(b"\r\n\r\n").decode("latin-1")
        fields = {
            name.lower(): value.strip()
            for name, _, value in (x.partition(":") for x in head.split("\r\n")[1:])
        }
        length = int(fields.get("content-length", "0"))
        while len(self.data) < length:
            self._more()
        return int(head.split(" ", 2)[1]), fields, self.data[:length]

    def watch(self, request: bytes, event: bytes, ended: Callable[[], bool]) -> str:
        """Read events, each of which must be this one, until the watch ends: how it did."""
        self.data = b""
        self.sock.sendall(request)
        head = self._until(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            return head.split(b"\r\n")[0].decode("latin-1")
        while not ended():
            size = int(self._until(b"\r\n"), 16)
            if size == 0:
                return "in order"
            while len(self.data) < size + 2:
                self._more()
            if self.data[:size] != event:
                return f"with an event of another one: {self.data[:size]!r}"
            self.data = self.data[size + 2 :]
        return "by us"

    def close(self) -> None:
        self.sock.close()

    def _until(self, mark: bytes) -> bytes:
        while mark not in self.data:
            self._more()
        found, _, self.data = self.data.partition(mark)
        return found

    def _more(self) -> None:
        more = self.sock.recv(65536)
        if not more:
            raise EOFError("closed")
        self.data += more


class Clients:
    """Requests at a steady rate over kept connections."""

    def __init__(self, address: tuple[str, int], outcome: Outcome) -> None:
        self._address = address
        self._outcome = outcome
        self._idle: list[Connection] = []
        self._stopped = False
        self._watching: list[Any] = []

    def run(self, requests: int, rate: float) -> None:
        """So many requests, each begun on time however long the others take."""
        self._watching = [gevent.spawn(self._watch, number) for number in range(WATCHES)]
        began = time.monotonic()
        running = []
        for number in range(requests):
            gevent.sleep(max(0.0, began + number / rate - time.monotonic()))
            running.append(gevent.spawn(self._request, number))
            self._outcome.sent += 1
        gevent.joinall(running)
        self._stopped = True
        gevent.joinall(self._watching, timeout=ANSWER_LIMIT)
        for connection in self._idle:
            connection.close()

    def _request(self, number: int) -> None:
        method = b"POST" if number % POSTS == 0 else b"GET"
        body = b"{}" if method == b"POST" else b""
        target = f"/api/v1/pods?n={number}"
        own = echo.said(ACCOUNT, method.decode(), target)
        request = b"%b /tunnel/%b%b HTTP/1.1\r\nHost: argotun\r\n%b\r\n%b" % (
            method,
            CLUSTER.encode(),
            target.encode(),
            b"Content-Length: %d\r\n" % len(body) if body else b"",
            body,
        )
        outcome = self._outcome
        began = time.monotonic()
        for _ in range(ATTEMPTS):
            why = self._attempt(method, request, own)
            if why is None:
                outcome.answered += 1
                outcome.slowest = max(outcome.slowest, time.monotonic() - began)
                return
            if why.startswith("!"):
                outcome.lost.append(f"{method.decode()} {number}: {why[1:]}")
                return
            outcome.repeated[why] += 1
        outcome.lost.append(f"{method.decode()} {number}: repeated {ATTEMPTS} times")

    def _attempt(self, method: bytes, request: bytes, own: bytes) -> str | None:
        """None when answered, what to count when it may be repeated, "!…" when it is lost."""
        try:
            connection = self._take()
        except OSError as error:
            return f"!no connection: {error}"
        try:
            status, fields, body = connection.ask(request)
        except (OSError, EOFError) as error:
            kind = "kept" if connection.reused else "new"
            part = "in an answer" if connection.data else "without an answer"
            connection.close()
            how = f"{kind} connection ended {part} ({error})"
            return how if method == b"GET" and not connection.data else f"!{how}"
        if fields.get("connection", "").lower() == "close":
            connection.close()
        else:
            connection.reused = True
            self._idle.append(connection)
        if status == 200:
            return None if body == own else f"!the answer to another request: {body[:200]!r}"
        said = f"{status} {body[:200]!r}"
        if "retry-after" in fields and (status == 429 or status >= 500):
            gevent.sleep(int(fields["retry-after"]))
            return re.sub(r"\d{5,}", "…", said)
        return f"!{said}"

    def _take(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.fresh_or_open:
                return connection
            connection.close()
        return Connection(self._address)

    def _watch(self, number: int) -> None:
        target = b"/api/v1/pods?watch=1&n=%d" % number
        request = b"GET /tunnel/%b%b HTTP/1.1\r\nHost: argotun\r\n\r\n" % (CLUSTER.encode(), target)
        while not self._stopped:
            connection = None
            try:
                connection = Connection(self._address)
                how = connection.watch(request, target, lambda: self._stopped)
            except (OSError, EOFError, ValueError) as error:
                how = f"cut: {error}"
            finally:
                if connection is not None:
                    connection.close()
            if how != "by us":
                self._outcome.watches_ended[how] += 1
                gevent.sleep(0.02)


class Deployment:
    """haproxy, an agent, and servers that come and go."""

    def __init__(self, site: Site, api: str, retries: int, replicas: int = 1, drain: str = "20s") -> None:
        """So many servers run, and there are places for as many more."""
        self._site = site
        self._registry = Registry(site).options if replicas > 1 else []
        self._retries = retries
        self._drain = drain
        self.ports = [[free_port() for _ in range(3)] for _ in range(2 * replicas)]
        self.agents, self.clients = free_port(), free_port()
        self._clusters = site.write("clusters.json", [{"id": CLUSTER, "token": TOKEN}])
        self._token = site.write("sa-token", ACCOUNT)
        self.haproxy = site.start(
            "haproxy", ["haproxy", "-db", "-f", str(site.write("haproxy.cfg", self._config()))]
        )
        self.servers = [self.start_server(at) for at in range(replicas)]
        self.agent = site.start("agent", [*PROGRAM, "--mode", "agent", *self._agent(api)])

    def _config(self) -> str:
        names = [f"s{at}" for at in range(len(self.ports))]
        return HAPROXY.format(
            retries=self._retries,
            agents=self.agents,
            clients=self.clients,
            agent_servers="\n".join(
                f"    server {name} 127.0.0.1:{public} check"
                for name, (public, _, _) in zip(names, self.ports, strict=True)
            ),
            client_servers="\n".join(
                f"    server {name} 127.0.0.1:{internal} check port {health}"
                for name, (_, internal, health) in zip(names, self.ports, strict=True)
            ),
        )

    def start_server(self, at: int) -> Child:
        """Start the server of one place, and wait until it listens."""
        public, internal, health = self.ports[at]
        command = ["--mode", "server", "--clusters", str(self._clusters), "--internal-plain"]
        command += ["--addr", f"127.0.0.1:{public}", "--internal-addr", f"127.0.0.1:{internal}"]
        command += ["--health-addr", f"127.0.0.1:{health}", "--drain", self._drain, "--no-access-log"]
        command += self._registry
        child = self._site.start(f"server-{at}", [*PROGRAM, *command])
        wait_until("the server", lambda: _status(health, "/healthz") == 200, [child])
        return child

    def ready(self, at: int) -> bool:
        """Whether the server of this place says that it is."""
        return _status(self.ports[at][2], "/readyz") == 200

    def _agent(self, api: str) -> list[str]:
        return [
            *("--server", f"ws://127.0.0.1:{self.agents}/connect", "--allow-insecure-server"),
            *("--token", TOKEN, "--target", api, "--plain-target", "--sa-token-path", str(self._token)),
            *("--health-addr", "off", "--no-access-log"),
        ]


def roll(
    site: Site, requests: int, rate: float, retries: int = 3, drain: str = "20s", replicas: int = 1
) -> Outcome:
    """Run the load and replace the servers, one after the other, when a part of it is done.

    What the draining server serves first, for a quarter of `drain`, must be longer than haproxy takes to
    see that it is not ready.

    With `retries` haproxy tries the other server where one refuses a connection; 0 is how a Kubernetes
    Service behaves, whose clients are sent to the old server until every node has heard of the change.
    """
    api = Api()
    outcome = Outcome()
    try:
        deployment = Deployment(site, api.address, retries, replicas, drain)
        children = [*deployment.servers, deployment.agent, deployment.haproxy]
        for at in range(replicas):
            wait_until("the agent", lambda at=at: deployment.ready(at), children)  # type: ignore[misc]
        clients = Clients(("127.0.0.1", deployment.clients), outcome)
        # haproxy sees it with its next check.
        wait_until("haproxy", lambda: _asked(deployment.clients), children)
        load = gevent.spawn(clients.run, requests, rate)
        gevent.sleep(requests / rate / (3 * replicas))
        for at in range(replicas):
            _replace(deployment, at, replicas + at, outcome)
        outcome.under_load = not load.ready()
        load.get(timeout=requests / rate + 60)
        for at in range(replicas, 2 * replicas):
            if not deployment.ready(at):
                raise BenchError("a new server never had an agent")
    finally:
        api.stop()
    return outcome


def _replace(deployment: Deployment, at: int, by: int, outcome: Outcome) -> None:
    """Start the server of place `by`, and end that of `at` once haproxy knows of the other."""
    fresh = deployment.start_server(by)
    # A server by itself is ready once it has an agent, a replica once it has a link to another one.
    for kind in ("agents", "clients") if len(deployment.servers) > 1 else ("agents",):
        line = f"{kind}/s{by} is UP".encode()
        wait_until("haproxy", lambda line=line: line in deployment.haproxy.log.read_bytes(), [fresh])  # type: ignore[misc]
    old = deployment.servers[at]
    began = time.monotonic()
    old.process.terminate()
    while old.process.poll() is None and time.monotonic() - began < 30:
        gevent.sleep(0.02)
    outcome.drained = max(outcome.drained, time.monotonic() - began)
    code = old.process.poll()
    outcome.exit_code = -1 if code is None else outcome.exit_code or code


def missing() -> str | None:
    """What this machine lacks."""
    return None if shutil.which("haproxy") else "haproxy is not installed (Debian: haproxy)"


def _status(port: int, path: str) -> int:
    try:
        connection = Connection(("127.0.0.1", port))
        try:
            return connection.ask(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())[0]
        finally:
            connection.close()
    except (OSError, EOFError):
        return 0


def _asked(port: int) -> bool:
    return _status(port, f"/tunnel/{CLUSTER}/api") == 200


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.rolling", description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=200.0, help="requests per second")
    parser.add_argument("--retries", type=int, default=3, help="haproxy's; 0 behaves as a Service does")
    parser.add_argument("--replicas", type=int, default=1, help="servers that share a registry")
    parser.add_argument("--json", type=Path, help="write the outcome there too")
    options = parser.parse_args()
    if lacking := missing():
        print(lacking, file=sys.stderr)
        return 1
    end_on_sigterm()
    with Site() as site:
        outcome = roll(site, options.requests, options.rate, options.retries, replicas=options.replicas)
    print(outcome)
    if options.json:
        record = {"sent": outcome.sent, "answered": outcome.answered, "lost": outcome.lost}
        record |= {"repeated": outcome.repeated, "watches": outcome.watches_ended}
        results.write(options.json, machine.describe(), **record)
    return 1 if outcome.lost else 0


if __name__ == "__main__":
    raise SystemExit(main())
