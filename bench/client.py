"""A small HTTP/1.1 client on raw sockets, so that little of what is measured is the client's own time."""

import contextlib
import socket
import ssl
import time
from pathlib import Path
from urllib.parse import urlsplit

from bench.errors import BenchError

TIMEOUT = 30.0  # seconds that any one read or write may take
MAX_HEAD = 65536  # bytes
PIECE = 1 << 20  # bytes handed to the socket at once


class Client:
    """One connection to the host of a URL; requests go to that URL, or to what is named below it.

    Its kernel holds about `receive_buffer` bytes unread, where that is given.
    """

    def __init__(self, url: str, ca: Path | None = None, receive_buffer: int = 0) -> None:
        parts = urlsplit(url)
        self._host = parts.netloc
        self._path = parts.path
        self._sock = socket.socket()
        self._sock.settimeout(TIMEOUT)
        if receive_buffer:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            self._sock.connect((parts.hostname or "", parts.port or 80))
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if parts.scheme == "https":
                context = ssl.create_default_context(cafile=ca)
                self._sock = context.wrap_socket(self._sock, server_hostname=parts.hostname)
        except OSError:
            self._sock.close()
            raise

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._sock.close()

    def get(self, below: str = "") -> tuple[int, bytes]:
        """Status and body of a small answer."""
        self.ask(below)
        status, length, body = self._read_head()
        while len(body) < length:
            body += self._some()
        return status, body

    def ask(self, below: str = "") -> None:
        """Send a GET and leave its answer to `take`."""
        self._send_head("GET", below=below)

    def take(self, size: int) -> int:
        """Read at most so many bytes of whatever comes; how many there were, 0 at the end."""
        return len(self.receive(size))

    def receive(self, size: int) -> bytes:
        """At most so many bytes of whatever comes, b"" at the end."""
        return self._sock.recv(size)

    def upgrade(self, below: str) -> None:
        """Have the connection upgraded, for `send` and `receive`; BenchError when that is refused."""
        self._send_head("GET", "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n", below)
        status, _, _ = self._read_head()
        if status != 101:
            raise BenchError(f"an upgrade was answered with {status}")

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._sock.sendall(data)

    def fileno(self) -> int:
        """For a selector; with TLS there may be more than it sees, `pending` bytes."""
        return self._sock.fileno()

    def pending(self) -> int:
        """Bytes that `receive` would give without asking the kernel."""
        return self._sock.pending() if isinstance(self._sock, ssl.SSLSocket) else 0

    def download(self, limit: float = float("inf")) -> tuple[int, int]:
        """Status and number of body bytes, which are read and thrown away, all within `limit` seconds."""
        deadline = time.monotonic() + limit
        self._send_head("GET")
        status, length, first = self._read_head()
        received, buffer = len(first), bytearray(PIECE)
        while received < length:
            count = self._sock.recv_into(buffer)
            if not count:
                raise BenchError(f"connection ended after {received} of {length} bytes")
            received += count
            _in_time(deadline, received, length, limit)
        return status, received

    def upload(self, size: int, limit: float = float("inf")) -> int:
        """Send `size` zero bytes with PUT, within `limit` seconds; the status of the answer."""
        deadline = time.monotonic() + limit
        self._send_head("PUT", f"Content-Length: {size}\r\n")
        piece = memoryview(bytes(PIECE))
        left = size
        while left:
            count = min(left, PIECE)
            self._sock.sendall(piece[:count])
            left -= count
            _in_time(deadline, size - left, size, limit)
        return self._read_head()[0]

    def _send_head(self, method: str, fields: str = "", below: str = "") -> None:
        path = f"{self._path}/{below}" if below else self._path
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nAccept: */*\r\n{fields}\r\n"
        self._sock.sendall(head.encode())

    def _read_head(self) -> tuple[int, int, bytes]:
        """Status, Content-Length and the body bytes that came with the head."""
        data = b""
        while b"\r\n\r\n" not in data:
            if len(data) > MAX_HEAD:
                raise BenchError("the answer's head does not end")
            data += self._some()
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        status = int(lines[0].split(b" ", 2)[1])
        length = 0
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
            elif name.lower() == b"transfer-encoding":
                raise BenchError("the answer is chunked, though the upstream gave its length")
        return status, length, body

    def _some(self) -> bytes:
        data = self._sock.recv(65536)
        if not data:
            raise BenchError("connection ended in the middle of an answer")
        return data


def get(url: str, ca: Path | None = None) -> tuple[int, bytes]:
    """Status and body of one GET on a connection of its own."""
    with contextlib.closing(Client(url, ca)) as connection:
        return connection.get()


def _in_time(deadline: float, moved: int, of: int, limit: float) -> None:
    if time.monotonic() > deadline:
        raise BenchError(f"{moved / 1e6:.0f} of {of / 1e6:.0f} MB after {limit:g} s")


def timed(
    direction: str, url: str, ca: Path | None, size: int, limit: float = float("inf")
) -> tuple[float, int]:
    """Seconds and status of one large transfer, `down` or `up`; the handshakes do not count.

    BenchError, which says how far it came, after `limit` seconds.
    """
    with contextlib.closing(Client(url, ca)) as connection:
        began = time.perf_counter()
        if direction == "up":
            status = connection.upload(size, limit)
        else:
            status, received = connection.download(limit)
            if received != size:
                raise BenchError(f"status {status} with {received} bytes instead of {size}")
        return time.perf_counter() - began, status
