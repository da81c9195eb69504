"""A hostile agent, byte by byte: one flood through one tunnel, and a new tunnel as soon as that is ended.

    python -m bench.flooder FLOOD RATE SECONDS PUBLIC INTERNAL CA CERT KEY TOKEN

RATE is in bytes per second. Where a flood needs requests, its accomplice asks for them at the internal port,
for the cluster `c0`. What became of it is printed as JSON: for how many seconds each tunnel lived from the
first byte of its flood (the last one may have lived on), and what was sent.
"""

import json
import select
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from struct import Struct
from typing import Any

CONNECT, CONNECTED, DATA, ERROR, CLOSE, PING, PONG, WINDOW, HELLO, GOAWAY, END = range(1, 12)
HEAD = Struct(">BII")
PIECE = 16 * 1024  # bytes of one message: a TLS record
SUBPROTOCOL = "Sec-WebSocket-Protocol: argotun.v2\r\n"
READERS = 170
TINY = "2-byte frames that nobody reads"
PATIENCE = 10.0


def frame(kind: int, stream: int = 0, payload: bytes = b"") -> bytes:
    """The bytes of one frame of a tunnel."""
    return HEAD.pack(kind, stream, len(payload)) + payload


def message(payload: bytes, first: int = 0x82) -> bytes:
    """One WebSocket frame, masked with zeros."""
    size = len(payload)
    if size < 126:
        length = bytes((0x80 | size,))
    elif size < 0x10000:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    return bytes((first,)) + length + bytes(4) + payload


def many(one: bytes) -> bytes:
    """A piece of nothing else."""
    return one * (PIECE // len(one))


class Ended(Exception):
    """The server has ended the tunnel."""


class Stream:
    """A request that this agent has been sent: what may still be sent on it, and what was."""

    def __init__(self, credit: int) -> None:
        self.credit = credit
        self.sent = 0


class Tunnel:
    """One tunnel of the hostile agent; `streams` are those that live, `over` the last that ended."""

    def __init__(self, where: dict[str, Any], version: int) -> None:
        plain = socket.create_connection(where["public"], PATIENCE)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = ssl.create_default_context(cafile=where["ca"])
        context.load_cert_chain(where["cert"], where["key"])
        self.sock = context.wrap_socket(plain, server_hostname="127.0.0.1")
        self.streams: dict[int, Stream] = {}
        self.window = 0
        self._buffer = b""
        offer = SUBPROTOCOL if version == 2 else ""
        self.sock.sendall(
            f"GET /connect HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n{offer}"
            f"Authorization: Bearer {where['token']}\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self._buffer:
            self._buffer += self._some()
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        if b" 101 " not in head:
            raise Ended(head)
        if version == 2:
            # Without a pool, so that nothing but the server's own account holds it to one.
            said = {"version": 2, "window": 1 << 20, "target": "", "release": "0", "instance": "hostile"}
            self.send(message(frame(HELLO, 0, json.dumps(said).encode())))
            while not self.window:
                self.listen(PATIENCE)

    def send(self, data: bytes) -> None:
        """Send all of it; Ended when that is not possible."""
        try:
            self.sock.sendall(data)
        except OSError as error:
            raise Ended(str(error)) from error

    def listen(self, seconds: float) -> None:
        """Take what has come, after waiting so long at most; requests are accepted."""
        if not self.sock.pending() and not select.select([self.sock], [], [], seconds)[0]:
            return
        self._buffer += self._some()
        for payload in self._messages():
            at = 0
            while at + HEAD.size <= len(payload):
                kind, stream, size = HEAD.unpack_from(payload, at)
                at += HEAD.size
                self._heard(kind, stream, payload[at : at + size])
                at += size

    def _heard(self, kind: int, stream: int, payload: bytes) -> None:
        if kind == HELLO:
            self.window = json.loads(payload).get("window", 256 * 1024)
        elif kind == PING:
            self.send(message(frame(PONG, 0, payload)))
        elif kind == CONNECT:
            self.streams[stream] = Stream(self.window)
            self.send(message(frame(CONNECTED, stream)))
        elif kind in (CLOSE, ERROR, END):
            self.streams.pop(stream, None)
        elif kind == WINDOW and stream in self.streams:
            credit = int.from_bytes(payload[:4], "big") + int.from_bytes(payload[4:], "big")
            self.streams[stream].credit += credit

    def _messages(self) -> Iterator[bytes]:
        """The whole messages in the buffer; Ended at a close frame."""
        buffer, at = self._buffer, 0
        while len(buffer) - at >= 2:
            first, size = buffer[at], buffer[at + 1]
            start = at + 2
            if size > 125:
                start += 2 if size == 126 else 8
                size = int.from_bytes(buffer[at + 2 : start], "big")
            if len(buffer) < start + size:
                break
            at = start + size
            if first == 0x88:
                raise Ended(buffer[start + 2 : at].decode("utf-8", "replace"))
            if first == 0x82:
                yield buffer[start:at]
        self._buffer = buffer[at:]

    def _some(self) -> bytes:
        try:
            data = self.sock.recv(65536)
        except OSError as error:
            raise Ended(str(error)) from error
        if not data:
            raise Ended("closed")
        return data


class Accomplice(threading.Thread):
    """A client that asks the hostile cluster again and again, and takes all of the answers or nothing."""

    def __init__(self, internal: tuple[str, int], reads: bool) -> None:
        super().__init__(daemon=True)
        self._internal = internal
        self._reads = reads

    def run(self) -> None:
        """Ask until the process ends."""
        while True:
            with suppress(OSError), socket.socket() as sock:
                if not self._reads:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.connect(self._internal)
                sock.sendall(b"GET /tunnel/c0/api/v1/pods HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                if not self._reads:
                    time.sleep(3600)
                while sock.recv(65536):
                    pass
            time.sleep(0.02)


Flood = Callable[[Tunnel], bytes]
"""What is sent next; nothing while it has to wait for a request or for credit."""


def on_stream(payload: bytes, kind: int = DATA, head: bytes = b"", most: int = 1 << 62) -> Flood:
    """Frames of this payload on the newest live request, behind a head; `most` bytes of one answer."""

    def flood(tunnel: Tunnel) -> bytes:
        for number, stream in reversed(tunnel.streams.items()):
            first = b""
            if head and not stream.sent:
                first = frame(DATA, number, head)
                stream.sent, stream.credit = len(head), stream.credit - len(head)
            one = frame(kind, number, payload)
            size = len(payload) if kind == DATA else 0
            count = PIECE // len(one)
            if size:
                count = min(count, stream.credit // size, (most - stream.sent) // size)
            stream.credit -= count * size
            stream.sent += count * size
            if first or count > 0:
                return message(first + one * max(count, 0))
        return b""

    return flood


def for_a_dead_one(tunnel: Tunnel) -> bytes:
    """DATA for a request that a wrong answer has ended."""
    first = b""
    if tunnel.streams:
        wrong = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\nmore"
        first = message(b"".join(frame(DATA, number, wrong) for number in tunnel.streams))
        tunnel.streams.clear()
    return first + message(many(frame(DATA, 1, bytes(16))))


def tiny_and_unread(tunnel: Tunnel) -> bytes:
    """An answer in frames of two bytes to each of many readers, in turns; all that they have credit for."""
    made = b""
    for number, stream in list(tunnel.streams.items()):
        if not stream.sent:
            head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n"
            made += frame(DATA, number, head)
            stream.sent, stream.credit = len(head), stream.credit - len(head)
        count = min(200, stream.credit // 2)
        made += frame(DATA, number, b"ab") * count
        stream.credit -= 2 * count
        stream.sent += 2 * count
    return message(made) if made else b""


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
HEAD_START = b"HTTP/1.1 200 OK\r\nX-Long: "

FLOODS: dict[str, Flood] = {
    "PING": lambda _: message(many(frame(PING))),
    "PONG": lambda _: message(many(frame(PONG))),
    "GOAWAY": lambda _: message(many(frame(GOAWAY))),
    "empty DATA": on_stream(b""),
    "DATA for a dead stream": for_a_dead_one,
    "WINDOW of a byte": on_stream(b"\0\0\0\1", WINDOW),
    "answer in 1-byte chunks": on_stream(b"1\r\na\r\n", head=CHUNKED),
    "head in 1-byte frames": on_stream(b"a", head=HEAD_START, most=70_000),
    "interim heads": on_stream(b"HTTP/1.1 100 \r\n\r\n", most=PIECE),
    "empty fragments": lambda _: many(message(b"", 0x00)),
    "WebSocket pings": lambda _: many(message(b"", 0x89)),
    "PING of version 1": lambda _: many(message(bytes([PING, 0, 0, 0, 0]))),
    TINY: tiny_and_unread,
}
"""The twelve, and one that is for memory."""

FIRST = {"empty fragments": message(b"", 0x02)}
"""What stands before a flood."""

ASKED = ("empty DATA", "DATA for a dead stream", "WINDOW of a byte", "answer in 1-byte chunks")
MANY_ASKED = ("head in 1-byte frames", "interim heads")


def flood_once(name: str, where: dict[str, Any], rate: float, until: float, outcome: dict[str, Any]) -> None:
    """One tunnel, until it is ended or the time is over."""
    tunnel = Tunnel(where, 1 if name == "PING of version 1" else 2)
    flood, began, sent, quiet = FLOODS[name], 0.0, 0, time.monotonic()
    try:
        tunnel.send(FIRST.get(name, b""))
        while (now := time.monotonic()) < until:
            tunnel.listen(0)
            data = flood(tunnel) if not began or sent <= rate * (now - began) else b""
            if data:
                began = began or now
                tunnel.send(data)
                sent += len(data)
                quiet = now
            elif name == TINY and now - quiet > 3.0:
                break
            else:
                tunnel.listen(0.002)
    except Ended as end:
        outcome["why"] = str(end)
        outcome["lives"].append(time.monotonic() - began if began else 0.0)
    finally:
        outcome["sent"] += sent
        outcome["tunnels"] += 1
        outcome["unread"] = sum(stream.sent for stream in tunnel.streams.values())
        tunnel.sock.close()


def main() -> int:
    name, rate, seconds, public, internal, ca, cert, key, token = sys.argv[1:]
    address = lambda text: (text.rpartition(":")[0], int(text.rpartition(":")[2]))  # noqa: E731
    where = {"public": address(public), "ca": ca, "cert": cert, "key": key, "token": token}
    count = READERS if name == TINY else 4 if name in MANY_ASKED else 1 if name in ASKED else 0
    for _ in range(count):
        Accomplice(address(internal), name != TINY).start()
    outcome: dict[str, Any] = {"lives": [], "sent": 0, "tunnels": 0, "why": ""}
    until = time.monotonic() + float(seconds)
    while time.monotonic() < until:
        try:
            flood_once(name, where, float(rate), until, outcome)
        except (Ended, OSError) as error:
            outcome["why"] = outcome["why"] or str(error)
            time.sleep(0.05)
        if name == TINY:
            break
    print(json.dumps(outcome))
    return 0


if __name__ == "__main__":
    sys.exit(main())
