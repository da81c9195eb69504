"""What the soak's clients do: each once through, with everything checked that comes back."""

import random
import re
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

import gevent
from gevent import socket

from bench.soak_api import PERIOD, piece

PATIENCE = 30.0  # seconds without a byte after which a client has been forgotten
HOST = b" HTTP/1.1\r\nHost: argotun\r\n"
NUMBERS = count(1)  # of all requests: no two have the same target


class Wrong(Exception):
    """Something came back that must never come back, whatever was killed."""


class Refused(Exception):
    """An orderly answer of argotun's own: its status, and whether it is the `last` of its connection."""

    def __init__(self, status: str, last: bool) -> None:
        super().__init__(status)
        self.last = last


class Client:
    """One connection to the internal port."""

    def __init__(self, address: tuple[str, int], buffer: int = 0) -> None:
        self.sock = socket.socket()
        if buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.sock.settimeout(PATIENCE)
        try:
            self.sock.connect(address)
        except BaseException:
            self.sock.close()
            raise
        self.data = self._asked = b""

    def ask(self, method: bytes, cluster: str, path: str, more: bytes = b"") -> None:
        target = f"/apis/soak/v1/{path}{'&' if '?' in path else '?'}id={next(NUMBERS)}"
        self._asked = f"sa-{cluster} {target}".encode()
        self.sock.sendall(method + f" /tunnel/{cluster}{target}".encode() + HOST + more + b"\r\n")

    def head(self, status: bytes = b"200") -> int:
        """The Content-Length of the answer to what was asked last. Refused where argotun answers itself."""
        while b"\r\n\r\n" not in self.data:
            self.more()
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        found = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        length = int(found[1]) if found else 0
        got = head.split(b" ", 2)[1]
        if got != status:
            body = self.read(length)
            if b"argotun:" not in body:
                raise Wrong(f"{got!r} in place of {status!r}: {body[:200]!r}")
            raise Refused(got.decode(), b"connection: close" in head.lower())
        asked = re.search(rb"(?i)\r\nasked: (.*?)(\r\n|$)", head)
        if asked is None or asked[1] != self._asked:
            raise Wrong(f"asked {self._asked!r}, got the answer to {asked and asked[1]!r}")
        return length

    def read(self, size: int) -> bytes:
        while len(self.data) < size:
            self.more()
        data, self.data = self.data[:size], self.data[size:]
        return data

    def more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError("ended")
        self.data += data

    def leave(self, dice: random.Random) -> None:
        """Close, or reset, as clients do."""
        if dice.random() < 0.5:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


Act = Callable[["Client", str, random.Random], None]


def requests(client: Client, cluster: str, dice: random.Random) -> None:
    """A kept connection with small requests."""
    for _ in range(dice.randrange(1, 100)):
        number = dice.randrange(1 << 30)
        client.ask(b"GET", cluster, f"small?n={number}")
        try:
            body = client.read(client.head())
        except Refused as refusal:
            if refusal.last:
                raise
            # The connection serves on, and must not be one answer behind.
        else:
            if body != b"small %d" % number:
                raise Wrong("somebody else's answer")
        gevent.sleep(dice.uniform(0.0, 0.1))


def upload(client: Client, cluster: str, dice: random.Random) -> None:
    """Several megabytes up; the API says what arrived."""
    size, total = dice.randrange(1, 8_000_000), 0
    client.ask(b"POST", cluster, "upload", b"Content-Length: %d\r\n" % size)
    for offset in range(0, size, PERIOD):
        data = piece(offset, min(PERIOD, size - offset))
        total = zlib.crc32(data, total)
        client.sock.sendall(data)
    if client.read(client.head(b"201")) != b"crc %d" % total:
        raise Wrong("an upload arrived changed")


def half_upload(client: Client, cluster: str, dice: random.Random) -> None:
    """An upload that stops; it is told so, or leaves before."""
    client.ask(b"POST", cluster, "upload", b"Content-Length: 100000\r\n")
    client.sock.sendall(b"x" * dice.randrange(100_000))
    client.sock.settimeout(dice.choice([1.0, PATIENCE]))
    client.head()


def flood(client: Client, cluster: str, dice: random.Random) -> None:
    """A long answer, read as fast as it comes, and often left in the middle."""
    size = dice.randrange(1, 30_000_000)
    stop = dice.choice([size, dice.randrange(size)])
    _bulk(client, cluster, size, stop, 65536, 0.0)


def slow(client: Client, cluster: str, dice: random.Random) -> None:
    """A long answer that is read a little at a time."""
    _bulk(client, cluster, 30_000_000, dice.randrange(20, 200) * 4096, 4096, dice.uniform(0.02, 0.2))


def stalled(client: Client, cluster: str, dice: random.Random) -> None:
    """A long answer of which nothing is read, for less or more than the limit."""
    client.ask(b"GET", cluster, "bulk?size=30000000")
    gevent.sleep(dice.uniform(0.0, 12.0))


def _bulk(client: Client, cluster: str, size: int, stop: int, at_once: int, pause: float) -> None:
    client.ask(b"GET", cluster, f"bulk?size={size}")
    if client.head() != size:
        raise Wrong("another size than was asked for")
    offset = 0
    while offset < stop:
        if not client.data:
            client.data = client.sock.recv(at_once)
            if not client.data:
                raise Wrong("a cut answer that ends in order") if offset == size else EOFError("ended")
        data, client.data = client.data[:PERIOD], client.data[PERIOD:]
        if data != piece(offset, len(data)):
            raise Wrong("a long answer arrived changed")
        offset += len(data)
        gevent.sleep(pause)


def watch(client: Client, cluster: str, dice: random.Random) -> None:
    """Events in order until the API ends the watch, or this client."""
    client.ask(b"GET", cluster, "events?watch=1")
    client.head()
    for number in range(dice.randrange(1, 300)):
        while b"\r\n" not in client.data:
            client.more()
        line, _, client.data = client.data.partition(b"\r\n")
        event = client.read(int(line, 16) + 2)
        if event == b"\r\n":
            return
        if event != b"event %d\n\r\n" % number:
            raise Wrong(f"{event!r} as event {number}")


def terminal(client: Client, cluster: str, dice: random.Random) -> None:
    """An upgraded connection that echoes; either side ends it, in any way."""
    limit = dice.randrange(1, 2_000_000)
    client.ask(b"POST", cluster, f"exec?bytes={limit}", b"Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n")
    client.head(b"101")
    said = 0
    while said < limit and dice.random() > 0.01:
        data = piece(said, min(limit - said, dice.randrange(1, 40_000)))
        client.sock.sendall(data)
        if client.read(len(data)) != data:
            raise Wrong("an echo that was changed")
        said += len(data)
        gevent.sleep(dice.uniform(0.0, 0.1))
    if said == limit or dice.random() < 0.3:
        client.sock.shutdown(socket.SHUT_WR)
        if client.data or client.sock.recv(1):
            raise Wrong("more than was said")


def silence(client: Client, cluster: str, _dice: random.Random) -> None:
    """A request that the API never answers."""
    client.ask(b"GET", cluster, "silent")
    client.head()


def nonsense(client: Client, cluster: str, dice: random.Random) -> None:
    """Half a head, or one that nobody should understand."""
    client.sock.sendall(dice.choice([b"GET /tunnel/", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", b"\0\0\0"]))
    gevent.sleep(dice.uniform(0.0, 2.0))
    if dice.random() < 0.5:
        client.head()


ACTS: dict[Act, int] = {
    requests: 6,
    watch: 8,
    terminal: 4,
    upload: 2,
    flood: 2,
    slow: 3,
    stalled: 3,
    half_upload: 1,
    silence: 1,
    nonsense: 1,
}
"""What is done, and by how many clients at once in each cluster."""


class Load:
    """All clients, until `stop`; `seen` counts by act how they ended, `wrong` is what must not be."""

    def __init__(self, address: tuple[str, int], clusters: list[str], seed: int) -> None:
        self.seen: Counter[tuple[str, str]] = Counter()
        self.wrong: list[str] = []
        self._address = address
        self._greenlets = [
            gevent.spawn(
                self._repeat, act, cluster, random.Random(f"{seed} {cluster} {act.__name__} {number}")
            )
            for cluster in clusters
            for act, count in ACTS.items()
            for number in range(count)
        ]

    def stop(self) -> None:
        """End every client where it is."""
        gevent.killall(self._greenlets)

    def missing(self, *acts: str) -> list[str]:
        """Those of these acts that have never come to their end."""
        return [act for act in acts if not self.seen[act, "done"]]

    def _repeat(self, act: Act, cluster: str, dice: random.Random) -> None:
        gevent.sleep(dice.random())
        while True:
            how = self._once(act, cluster, dice)
            self.seen[act.__name__, how] += 1
            gevent.sleep(dice.uniform(0.1, 0.5))

    def _once(self, act: Act, cluster: str, dice: random.Random) -> str:
        client: Any = None
        try:
            client = Client(self._address, 4096 if act in (slow, stalled) else 0)
            act(client, cluster, dice)
        except Refused as refusal:
            return str(refusal)
        except TimeoutError:
            return "gave up"
        except (OSError, EOFError):
            return "cut"
        except (Wrong, ValueError) as wrong:
            self.wrong.append(f"{act.__name__}: {wrong}")
            return "WRONG"
        finally:
            if client is not None:
                client.leave(dice)
        return "done"
