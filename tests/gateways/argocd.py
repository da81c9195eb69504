"""A stand-in for argocd-server: one port that tells its clients' protocols apart as the real one does.

- HTTP/1.1: the UI, and gRPC-web (content type application/grpc-web+proto). A POST of any other type is
  for no page and gets 404; that is what Cilium's users see.
- HTTP/2: gRPC alone, answered by a real gRPC server.
- With `insecure` without TLS; otherwise with TLS, and plain HTTP/1.1 is sent to https.
"""

import re
import ssl
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import gevent
import pytest
from gevent import socket
from gevent.server import StreamServer

from tests.rig import Peer

PEER = Path(__file__).with_name("grpc_peer.py")
METHOD = b"/session.SessionService/Create"
CLUSTER = re.compile(rb"/api/v1/clusters/[^/]+(/invalidate-cache)?")
"""A cluster's page and what can be done with it; its name is a URL with %2F for each slash."""
PREFACE = b"PRI * HTTP/2.0"
LIMIT = 120
"""Seconds for a process that speaks gRPC."""


class ArgoServer:
    """Listens while the `with` lasts; `heads` are the HTTP/1.1 requests that arrived."""

    def __init__(self, insecure: bool, certificate: tuple[str, str]) -> None:
        pytest.importorskip("grpc", reason="there is no grpcio: make gateways installs it")
        self._context = None
        if not insecure:
            self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self._context.load_cert_chain(*certificate)
            self._context.set_alpn_protocols(["h2", "http/1.1"])
        self.heads: list[bytes] = []
        self._server = StreamServer(("127.0.0.1", 0), self._serve)

    def __enter__(self) -> Self:
        command = [sys.executable, str(PEER), "serve"]
        self._grpc = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._grpc.stdin is not None
        assert self._grpc.stdout is not None
        self._grpc_port = int(self._grpc.stdout.readline())
        self._server.start()
        self.port = self._server.server_port
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(timeout=0)
        self._grpc.communicate(timeout=LIMIT)

    def _serve(self, sock: Any, _peer: object) -> None:
        try:
            hello = sock.recv(1, socket.MSG_PEEK)
            plain = hello != b"\x16"
            if not plain and self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
            peer = Peer(sock)
            start = peer.read(len(PREFACE))
            if start == PREFACE:
                self._pass_to_grpc(sock, start + peer.buffer)
                return
            peer.buffer = start + peer.buffer
            while True:
                self._answer(peer, moved=plain and self._context is not None)
        except (EOFError, OSError):
            # The client has left.
            pass
        finally:
            sock.close()

    def _answer(self, peer: Peer, moved: bool) -> None:
        head = peer.head()
        self.heads.append(head)
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        if length := fields.get(b"content-length"):
            body = peer.read(int(length))
        elif fields.get(b"transfer-encoding") == b"chunked":
            body = b""
            while size := int(peer.until(b"\r\n"), 16):
                body += peer.read(size)
                peer.read(2)
            peer.until(b"\r\n")
        else:
            body = b""
        method, target, _ = head.split(b" ", 2)
        kind = fields.get(b"content-type", b"")
        if moved:
            respond(peer, b"307 Temporary Redirect", b"text/html", b"", b"Location: https://argocd\r\n")
        elif method == b"POST" and kind.startswith(b"application/grpc-web") and target == METHOD:
            respond(peer, b"200 OK", kind, frame(0, b"web " + body[5:]) + frame(0x80, b"grpc-status: 0\r\n"))
        elif method == b"GET" and target == b"/":
            respond(peer, b"200 OK", b"text/html", b"<title>Argo CD</title>")
        elif CLUSTER.fullmatch(target):
            respond(peer, b"200 OK", b"application/json", b"{}")
        else:
            respond(peer, b"404 Not Found", b"text/plain; charset=utf-8", b"404 page not found\n")

    def _pass_to_grpc(self, sock: Any, first: bytes) -> None:
        with socket.create_connection(("127.0.0.1", self._grpc_port)) as other:
            other.sendall(first)
            ways = [gevent.spawn(copy, sock, other), gevent.spawn(copy, other, sock)]
            gevent.joinall(ways, count=1)
            gevent.killall(ways)


def copy(source: Any, sink: Any) -> None:
    """Pass bytes on until one side ends."""
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass


def frame(flags: int, data: bytes) -> bytes:
    """A message or, with 0x80, the trailers of gRPC-web."""
    return struct.pack("!BI", flags, len(data)) + data


def respond(peer: Peer, status: bytes, kind: bytes, body: bytes, more: bytes = b"") -> None:
    """One HTTP/1.1 response with its length."""
    peer.send(
        b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n%b\r\n" % (status, kind, len(body), more)
        + body
    )


def native_call(port: int, name: str, ca: str, user_agent: str) -> str:
    """What comes of one native gRPC call through the gateway."""
    command = [sys.executable, str(PEER), "call", f"127.0.0.1:{port}", name, ca, user_agent]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=True).stdout.strip()
