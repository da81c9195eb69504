"""Probes and metrics over HTTP: `/healthz`, `/readyz`, `/metrics`, `/status`, a server's `/joined`, and `/`.

`Probes` knows the answers; the server's own ports ask it for them. `HealthServer` serves them on a port
of its own, without client certificates, for kubelets and Prometheus.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from time import monotonic
from typing import Any

import gevent
import gevent.socket
from gevent.lock import RLock
from gevent.pywsgi import WSGIHandler, WSGIServer

from argotun.address import host_port
from argotun.errors import ConfigError
from argotun.observe import page, page_clusters
from argotun.observe.exposition import is_openmetrics
from argotun.observe.metrics import Metrics
from argotun.observe.page_clusters import View
from argotun.turns import NEXT_TURN

MAX_CONNECTIONS = 32
"""Connections at once; a kubelet and a few scrapers need fewer, and each may hold a metrics text. Of more the
one that has been silent longest has to go: a kubelet says all it has to say at once."""

HEAD_TIME = 1.0
"""Seconds for a request's head."""

FRESH = 1.0
"""Seconds for which `/metrics` and `/status` are given again as they are: a thousand clusters take 0.3 s."""

VIEWS = 8
"""Pages of one status that are kept, each below 40 kB."""

PIECES = 20
"""Pieces of the page that are made in one turn of the event loop: about a millisecond's work."""

CHUNKS = 2000
"""The same of JSON, by the encoder's own pieces: a name, a value, a comma."""

ACCEPTS_PER_TURN = 4
"""Connections accepted per turn of the event loop; the descriptors of those that go are closed in another."""

BACKLOG = 1024
"""Connections that the kernel holds until they are accepted."""

REQUEST_TIME = 10.0
"""Seconds for a whole connection, so that silent clients cannot keep the probes from a kubelet."""

TEXT = b"text/plain; charset=utf-8"

ProbeAnswer = tuple[int, bytes, bytes]
"""Status code, content type, body."""


LATE: ProbeAnswer = 503, TEXT, b"there is too much to tell, or to do, to say it in time"
"""In place of an answer that was not made within REQUEST_TIME."""


class Probes:
    """The answers of one process.

    `ready` says whether it can do its work, `reason` why it cannot (called only then), and `status`
    gives the content of `/status`, in values that JSON has. `joined` says whether the
    other replicas are known.
    """

    def __init__(
        self,
        ready: Callable[[], bool],
        metrics: Metrics,
        status: Callable[[], Mapping[str, object]],
        reason: Callable[[], str] = lambda: "not ready",
        joined: Callable[[], bool] | None = None,
    ) -> None:
        self._ready = ready
        self._reason = reason
        self._metrics = metrics
        self._status = status
        self._routes: dict[bytes, Callable[[str], ProbeAnswer]] = {
            b"/healthz": self._healthz,
            b"/readyz": self._readyz,
            b"/metrics": self._exposition,
            b"/status": self._summary,
        }
        if joined is not None:
            self._joined = joined
            self._routes[b"/joined"] = self._joins
        # For whoever has found the port, and not what is there.
        others = ", ".join(path.decode() for path in self._routes if path != b"/status")
        self._index = f"argotun: /status says how it does, in a browser as a page; also {others}\n".encode()
        self._routes[b"/"] = self._names
        self._kept: dict[tuple[Callable[[str], ProbeAnswer], bool], tuple[float, ProbeAnswer]] = {}
        self._pages: tuple[float, Mapping[str, object], dict[View, ProbeAnswer]] = (-FRESH, {}, {})
        self._rendering = RLock()

    def answer(self, path: bytes, accept: str = "", query: str = "") -> ProbeAnswer | None:
        """The answer for a path, or None for a path that is not served here.

        `accept` is the request's Accept header, which chooses the format of `/metrics` and `/status`; the
        query says which clusters are on a page. Both switch greenlets, so this must not run in the hub.
        """
        route = self._routes.get(path)
        if route is None:
            return None
        if path == b"/status" and page.wanted(accept):
            return self._page(page_clusters.view(query))
        if path in (b"/metrics", b"/status"):
            return self._once_a_second(route, accept)
        return route(accept)

    def _once_a_second(self, route: Callable[[str], ProbeAnswer], accept: str) -> ProbeAnswer:
        """What a route said within FRESH seconds, or says now; who asks meanwhile waits for it."""
        kind = (route, is_openmetrics(accept))
        with self._rendering:
            at, answer = self._kept.get(kind, (0.0, None))
            if answer is None or monotonic() - at >= FRESH:
                answer = route(accept)
                self._kept[kind] = monotonic(), answer
        return answer

    def _page(self, asked: View) -> ProbeAnswer:
        """The status page, of a status that is FRESH; the last few views of that are kept."""
        with self._rendering:
            at, status, made = self._pages
            if monotonic() - at >= FRESH:
                status, made = self._status(), {}
                self._pages = monotonic(), status, made
            if asked not in made:
                while len(made) >= VIEWS:
                    made.pop(next(iter(made)))
                made[asked] = 200, page.HTML, _in_turns(page.pieces(status, asked), PIECES)
            return made[asked]

    def _names(self, _accept: str) -> ProbeAnswer:
        return 200, TEXT, self._index

    def _healthz(self, _accept: str) -> ProbeAnswer:
        return 200, TEXT, b"ok"

    def _readyz(self, _accept: str) -> ProbeAnswer:
        if self._ready():
            return 200, TEXT, b"ok"
        return 503, TEXT, self._reason().encode()

    def _joins(self, _accept: str) -> ProbeAnswer:
        return (
            (200, TEXT, b"ok") if self._joined() else (503, TEXT, b"it does not know the other replicas yet")
        )

    def _exposition(self, accept: str) -> ProbeAnswer:
        body, content_type = self._metrics.exposition(accept)
        return 200, content_type.encode(), body

    def _summary(self, _accept: str) -> ProbeAnswer:
        # Indented JSON is made in Python in any case: a thousand clusters take 40 ms.
        chunks = json.JSONEncoder(indent=2).iterencode(self._status())
        return 200, b"application/json", _in_turns(chunks, CHUNKS) + b"\n"


def _in_turns(pieces: Iterable[str], at_once: int) -> bytes:
    """All pieces together; the event loop turns after so many of them."""
    made = []
    for done, piece in enumerate(pieces, 1):
        made.append(piece)
        if done % at_once == 0:
            gevent.sleep(NEXT_TURN)
    return "".join(made).encode("utf-8", "replace")


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
            raise ConfigError("--health-addr", host_port(*self.address), f"a free address: {why}") from error
        host, port, *_ = listener.getsockname()
        self.address = (host, port)
        self._server = _Server(
            listener,
            self._respond,
            log=None,
            error_log=None,
            handler_class=_Handler,
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
            query = environ.get("QUERY_STRING", "")
            try:
                answer = self._probes.answer(path, environ.get("HTTP_ACCEPT", ""), query)
            except gevent.Timeout:
                answer = LATE
            code, content_type, body = answer or (404, TEXT, b"not found")
        else:
            code, content_type, body = 405, TEXT, b"only GET and HEAD"
        headers = [
            ("Content-Type", content_type.decode()),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
            *(page.HEADERS if content_type == page.HTML else ()),
        ]
        start_response(f"{code} {HTTPStatus(code).phrase}", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


class _Handler(WSGIHandler):  # type: ignore[misc]
    """A handler that answers a malformed request with 400 and has nothing of a client's in the log."""

    def read_request(self, raw_requestline: str) -> Any:
        try:
            read = super().read_request(raw_requestline)
            self.server.heard()
            return read
        except Exception as error:
            # The library prints a traceback of anything else.
            raise ValueError(str(error)) from error

    def handle_error(self, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        """Cut an answer that was not taken in time; the rest is a fault, and told as one."""
        if issubclass(kind, gevent.Timeout):
            self.close_connection = True
        else:
            super().handle_error(kind, error, trace)


class _Server(WSGIServer):  # type: ignore[misc]
    """A WSGI server with MAX_CONNECTIONS at once, a time limit for each, and without Nagle's delay."""

    max_accept = ACCEPTS_PER_TURN

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # Both oldest first; silent are those whose head is not complete.
        self._open: dict[gevent.Greenlet, None] = {}
        self._silent: dict[gevent.Greenlet, gevent.Timeout] = {}

    def handle(self, sock: Any, address: Any) -> None:
        """Serve one connection, where there are too many in place of the oldest silent one, or the oldest."""
        mine = gevent.getcurrent()
        if len(self._open) >= MAX_CONNECTIONS:
            oldest = next(iter(self._silent or self._open))
            self._forget(oldest)
            oldest.kill(block=False)
        self._open[mine] = None
        self._silent[mine] = silence = gevent.Timeout.start_new(HEAD_TIME)
        try:
            sock.setsockopt(gevent.socket.IPPROTO_TCP, gevent.socket.TCP_NODELAY, 1)
            with gevent.Timeout(REQUEST_TIME, False):
                super().handle(sock, address)
        except gevent.Timeout as over:
            if over is not silence:
                raise
        finally:
            self._forget(mine)

    def heard(self) -> None:
        """The head of this greenlet's request is complete."""
        silence = self._silent.pop(gevent.getcurrent(), None)
        if silence is not None:
            silence.close()

    def _forget(self, one: gevent.Greenlet) -> None:
        self._open.pop(one, None)
        silence = self._silent.pop(one, None)
        if silence is not None:
            silence.close()


def _listen(host: str, port: int) -> Any:
    """A listening socket; an empty host is every address, IPv6 and IPv4, that the machine has."""
    if host:
        family = gevent.socket.AF_INET6 if ":" in host else gevent.socket.AF_INET
        return gevent.socket.create_server((host, port), family=family, backlog=BACKLOG)
    if gevent.socket.has_dualstack_ipv6():
        return gevent.socket.create_server(
            ("", port), family=gevent.socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True
        )
    return gevent.socket.create_server(("", port), backlog=BACKLOG)
