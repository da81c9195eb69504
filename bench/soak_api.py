"""The soak's stand-in for the Kubernetes API: every answer can be checked by whoever asked for it."""

import random
import ssl
import zlib
from typing import Any
from urllib.parse import parse_qs

import gevent
from gevent import socket
from gevent.server import StreamServer

from argotun.wire.body import FINAL_CHUNK, chunk
from bench.certificates import Certificates

PATTERN = bytes(range(256)) * 512
"""A long answer repeats its first half; any piece of up to 64 KiB stands somewhere in it."""

PERIOD = len(PATTERN) // 2
SWITCH = b"Connection: Upgrade\r\nUpgrade: SPDY/3.1"


def head(status: bytes, fields: dict[bytes, bytes], framing: bytes) -> bytes:
    """An answer's head, with what was asked in the request that has these fields."""
    return b"HTTP/1.1 %b\r\nAsked: %b\r\n%b\r\n\r\n" % (status, fields[b"asked"], framing)


def piece(offset: int, size: int) -> bytes:
    """So many bytes of a long answer, at most PERIOD, from an offset on."""
    at = offset % PERIOD
    return PATTERN[at : at + size]


class Api:
    """TLS on a free port; one request after the other on each connection."""

    def __init__(self, made: Certificates, seed: int) -> None:
        self._random = random.Random(seed)
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(made.server, made.server_key)
        self._server = StreamServer(("127.0.0.1", 0), self._accept)
        self._server.start()
        self.port: int = self._server.server_port
        self.connections = 0

    def stop(self) -> None:
        """Serve no more."""
        self._server.stop(timeout=0)

    def _accept(self, sock: Any, _peer: object) -> None:
        try:
            self._serve(self._context.wrap_socket(sock, server_side=True))
        except OSError:
            # The agent was killed in the middle of its handshake.
            sock.close()

    def _serve(self, sock: Any) -> None:
        self.connections += 1
        stream = sock.makefile("rb")
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while line := stream.readline():
                fields = {}
                while (field := stream.readline()).strip():
                    name, _, value = field.partition(b":")
                    fields[name.lower()] = value.strip()
                target = line.split(b" ")[1]
                # Each answer says which request it answers, and whose agent brought that one.
                fields[b"asked"] = fields[b"authorization"].removeprefix(b"Bearer ") + b" " + target
                path, _, query = target.partition(b"?")
                wanted = {key.decode(): value[0].decode() for key, value in parse_qs(query).items()}
                if not getattr(self, "_" + path.decode().rpartition("/")[2])(sock, stream, fields, wanted):
                    return
        except (OSError, ValueError):
            # The agent hung up in the middle.
            pass
        finally:
            self.connections -= 1
            stream.close()
            sock.close()

    def _version(self, sock: Any, _stream: Any, fields: dict[bytes, bytes], _wanted: Any) -> bool:
        """What an agent asks by itself."""
        sock.sendall(head(b"200 OK", fields, b"Content-Length: 2") + b"{}")
        return True

    def _small(self, sock: Any, _stream: Any, fields: dict[bytes, bytes], wanted: dict[str, str]) -> bool:
        body = f"small {wanted['n']}".encode()
        sock.sendall(head(b"200 OK", fields, b"Content-Length: %d" % len(body)) + body)
        return True

    def _upload(self, sock: Any, stream: Any, fields: dict[bytes, bytes], _wanted: Any) -> bool:
        left, total = int(fields[b"content-length"]), 0
        while left:
            data = stream.read(min(left, 65536))
            if not data:
                return False
            total = zlib.crc32(data, total)
            left -= len(data)
        body = b"crc %d" % total
        sock.sendall(head(b"201 Created", fields, b"Content-Length: %d" % len(body)) + body)
        return True

    def _bulk(self, sock: Any, _stream: Any, fields: dict[bytes, bytes], wanted: dict[str, str]) -> bool:
        size = int(wanted["size"])
        sock.sendall(head(b"200 OK", fields, b"Content-Length: %d" % size))
        for offset in range(0, size, PERIOD):
            sock.sendall(piece(offset, min(PERIOD, size - offset)))
        return True

    def _events(self, sock: Any, _stream: Any, fields: dict[bytes, bytes], _wanted: Any) -> bool:
        sock.sendall(head(b"200 OK", fields, b"Transfer-Encoding: chunked"))
        for number in range(self._random.randrange(1, 200)):
            event = b"event %d\n" % number
            sock.sendall(chunk(event))
            gevent.sleep(self._random.uniform(0.05, 0.5))
        sock.sendall(FINAL_CHUNK)
        return True

    def _exec(self, sock: Any, stream: Any, fields: dict[bytes, bytes], wanted: dict[str, str]) -> bool:
        sock.sendall(head(b"101 Switching Protocols", fields, SWITCH))
        left = int(wanted["bytes"])
        while left > 0 and (data := stream.read1(65536)):
            sock.sendall(data)
            left -= len(data)
        return False

    def _silent(self, _sock: Any, stream: Any, _fields: Any, _wanted: Any) -> bool:
        stream.read(1)
        return False
