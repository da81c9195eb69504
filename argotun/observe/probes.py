"""Probes and metrics over HTTP: `/healthz`, `/readyz`, `/metrics`, `/status`.

`Probes` knows the answers; the server's own ports ask it for them. `HealthServer` serves them on a port
of its own, without client certificates, for kubelets and Prometheus.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any

import gevent
import gevent.socket
from gevent.pool import Pool
from gevent.pywsgi import WSGIHandler, WSGIServer

from argotun.errors import ConfigError
from argotun.observe.metrics import Metrics

MAX_CONNECTIONS = 32
"""Connections at once; a kubelet and a few scrapers need fewer, and each may hold a metrics text."""

REQUEST_TIME = 10.0
"""Seconds for a whole connection, so that silent clients cannot keep the probes from a kubelet."""

TEXT = b"text/plain; charset=utf-8"

Answer = tuple[int, bytes, bytes]
"""Status code, content type, body."""


class Probes:
    """The answers of one process.

    `ready` says whether it can do its work, `reason` why it cannot (called only then), and `status`
    gives the content of `/status`, in values that JSON has.
    """

    def __init__(
        self,
        ready: Callable[[], bool],
        metrics: Metrics,
        status: Callable[[], Mapping[str, object]],
        reason: Callable[[], str] = lambda: "not ready",
    ) -> None:
        self._ready = ready
        self._reason = reason
        self._metrics = metrics
        self._status = status
        self._routes: dict[bytes, Callable[[str], Answer]] = {
            b"/healthz": self._healthz,
            b"/readyz": self._readyz,
            b"/metrics": self._exposition,
            b"/status": self._summary,
        }

    def answer(self, path: bytes, accept: str = "") -> Answer | None:
        """The answer for a path without query, or None for a path that is not served here.

        `accept` is the request's Accept header, which chooses the format of metrics. `/metrics`
        switches greenlets, so this must not run in the hub.
        """
        route = self._routes.get(path)
        return route(accept) if route else None

    def _healthz(self, _accept: str) -> Answer:
        return 200, TEXT, b"ok"

    def _readyz(self, _accept: str) -> Answer:
        if self._ready():
            return 200, TEXT, b"ok"
        return 503, TEXT, self._reason().encode()

    def _exposition(self, accept: str) -> Answer:
        body, content_type = self._metrics.exposition(accept)
        return 200, content_type.encode(), body

    def _summary(self, _accept: str) -> Answer:
        return 200, b"application/json", json.dumps(self._status(), indent=2).encode() + b"\n"


class HealthServer:
    """A port that serves `probes` and nothing else.

    `address` is where it listens; `start` fills in the port where 0 was asked for.
    """

    def __init__(self, host: str, port: int, probes: Probes) -> None:
        self.address = (host, port)
        self._probes = probes
        self._server: _Server | None = None

    def start(self) -> None:
        """Bind and serve in the background; ConfigError where the address cannot be had."""
        try:
            listener = _listen(*self.address)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise ConfigError(
                "--health-addr", "{}:{}".format(*self.address), f"a free address: {why}"
            ) from error
        host, port, *_ = listener.getsockname()
        self.address = (host, port)
        self._server = _Server(
            listener,
            self._respond,
            log=None,
            error_log=None,
            handler_class=_Handler,
            spawn=Pool(MAX_CONNECTIONS),
        )
        self._server.start()

    def stop(self) -> None:
        """Stop listening and end the connections."""
        if self._server is not None:
            self._server.stop(timeout=0)

    def _respond(self, environ: Mapping[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        """WSGI application (PEP 3333); every answer closes its connection."""
        if environ["REQUEST_METHOD"] in {"GET", "HEAD"}:
            path = environ["PATH_INFO"].encode("latin-1")
            answer = self._probes.answer(path, environ.get("HTTP_ACCEPT", ""))
            code, content_type, body = answer or (404, TEXT, b"not found")
        else:
            code, content_type, body = 405, TEXT, b"only GET and HEAD"
        headers = [
            ("Content-Type", content_type.decode()),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
        start_response(f"{code} {HTTPStatus(code).phrase}", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


class _Handler(WSGIHandler):  # type: ignore[misc]
    """A handler that answers a malformed request with 400 and leaves no trace of it in the log."""

    def read_request(self, raw_requestline: str) -> Any:
        try:
            return super().read_request(raw_requestline)
        except Exception as error:
            # The library prints a traceback of anything else.
            raise ValueError(str(error)) from error


class _Server(WSGIServer):  # type: ignore[misc]
    """A WSGI server with a time limit for each connection, and without Nagle's delay."""

    def handle(self, sock: Any, address: Any) -> None:
        sock.setsockopt(gevent.socket.IPPROTO_TCP, gevent.socket.TCP_NODELAY, 1)
        with gevent.Timeout(REQUEST_TIME, False):
            super().handle(sock, address)


def _listen(host: str, port: int) -> Any:
    """A listening socket; an empty host is every address, IPv6 and IPv4, that the machine has."""
    if host:
        family = gevent.socket.AF_INET6 if ":" in host else gevent.socket.AF_INET
        return gevent.socket.create_server((host, port), family=family)
    if gevent.socket.has_dualstack_ipv6():
        return gevent.socket.create_server(("", port), family=gevent.socket.AF_INET6, dualstack_ipv6=True)
    return gevent.socket.create_server(("", port))
