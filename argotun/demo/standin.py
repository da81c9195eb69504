"""The stand-in Kubernetes API as a server: a socket, who may come in, and what came in.

It is no Kubernetes: it keeps objects in memory, allows everything, runs nothing, and says so in
`/version`, in its `Server` header and in the status of its pods. It is enough for a client to deploy
and watch, and it records each request's headers, so that a run can show which ones arrived.
"""

import json
import ssl
from collections import deque
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, NamedTuple

from gevent.pywsgi import WSGIHandler, WSGIServer
from gevent.socket import IPPROTO_TCP, TCP_NODELAY

from argotun.demo.api import Api, Request
from argotun.demo.pods import READY_AFTER, Pods
from argotun.demo.refusal import Refusal, bad_request
from argotun.demo.resources import NAMESPACES, Json
from argotun.demo.store import Store

MAX_BODY = 3 * 1024 * 1024
"""Bytes of one request's body, as in Kubernetes."""

SEEN = 500
"""Requests that are remembered."""


class Seen(NamedTuple):
    """One request as it arrived: `headers` in order, as sent; `user` is "" where it was not let in."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    user: str

    def header(self, name: str) -> list[str]:
        """Every value of one header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


class _Handler(WSGIHandler):  # type: ignore[misc]
    """Hands the application what WSGI hides: the raw target, the headers as sent, the socket."""

    # A client that leaves in the middle of a watch is no error; over TLS it looks like these.
    ignored_socket_errors = (*WSGIHandler.ignored_socket_errors, ssl.SSL_ERROR_EOF, ssl.SSL_ERROR_ZERO_RETURN)

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        peer = self.socket.getpeercert() if isinstance(self.socket, ssl.SSLSocket) else None
        environ["standin.target"] = self.path
        environ["standin.headers"] = self.headers.items()
        environ["standin.certificate"] = peer
        environ["standin.fd"] = self.socket.fileno()
        return environ

    def _connection_upgrade_requested(self) -> bool:
        # Nothing is upgraded here; gevent would take all that follows for the body, up to the end.
        return False


class _Server(WSGIServer):  # type: ignore[misc]
    def handle(self, sock: Any, address: Any) -> None:
        # pywsgi sends head and body apart: with Nagle's algorithm that costs 40 ms per answer.
        sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        super().handle(sock, address)

    def wrap_socket_and_handle(self, sock: Any, address: Any) -> None:
        try:
            super().wrap_socket_and_handle(sock, address)
        except ssl.SSLError:
            # Whoever speaks plain HTTP here, or does not trust the certificate, sees it on its own side.
            sock.close()


class StandIn:
    """The stand-in API on one port.

    `tokens` maps bearer tokens to user names. With tokens, or with a TLS context that asks for client
    certificates, a request must bring one of them (401 otherwise); without both, anyone may come in.
    """

    def __init__(
        self,
        address: tuple[str, int] = ("127.0.0.1", 0),
        *,
        tokens: dict[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        ready_after: float = READY_AFTER,
    ) -> None:
        self.store = Store()
        for name in ("default", "kube-system"):
            self.store.create(NAMESPACES, _namespace(name))
        self.seen: deque[Seen] = deque(maxlen=SEEN)
        self._api = Api(self.store, Pods(self.store, ready_after))
        self._tokens = tokens or {}
        self._closed = bool(tokens) or (tls is not None and tls.verify_mode != ssl.CERT_NONE)
        options = {} if tls is None else {"ssl_context": tls}
        self._server = _Server(
            address, self._wsgi, log=None, error_log=None, handler_class=_Handler, **options
        )

    def start(self) -> None:
        """Listen; returns when connections are accepted."""
        self._server.start()

    def stop(self) -> None:
        """Close the port, every connection and every watch."""
        self.store.ended = True
        self.store.wake()
        self._server.stop(timeout=0.1)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on, once started."""
        host, port = self._server.address[:2]
        return host, port

    def _user(self, environ: dict[str, Any]) -> str | None:
        """Who asks; None for nobody that may come in."""
        for subject in (environ["standin.certificate"] or {}).get("subject", ()):
            for key, value in subject:
                if key == "commonName":
                    return str(value)
        scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() == "bearer" and token in self._tokens:
            return self._tokens[token]
        return None if self._closed else "system:anonymous"

    def _wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, target = environ["REQUEST_METHOD"], environ["standin.target"]
        user = self._user(environ)
        self.seen.append(Seen(method, target, environ["standin.headers"], user or ""))
        try:
            if user is None and target != "/version":
                raise Refusal(401, "Unauthorized", "Unauthorized")
            body = environ["wsgi.input"].read(MAX_BODY + 1)
            if len(body) > MAX_BODY:
                raise Refusal(413, "RequestEntityTooLarge", f"more than {MAX_BODY} bytes")
            kind = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
            asked = "GET" if method == "HEAD" else method
            code, answer = self._api.answer(
                Request(asked, target, body, kind, user or "", environ["standin.fd"])
            )
        except Refusal as refused:
            code, answer = refused.code, refused.status()
        except RecursionError:
            code, answer = 400, bad_request("the object is nested too deeply").status()
        headers = [("Content-Type", "application/json"), ("Server", "argotun-stand-in")]
        if audit_id := environ.get("HTTP_AUDIT_ID"):
            headers.append(("Audit-Id", audit_id))
        if not isinstance(answer, dict):
            # A watch's head goes out at once, as from a real API: a client waits for it before it acts.
            start_response("200 OK", headers)(b"")
            return answer
        content = json.dumps(answer).encode() + b"\n"
        headers.append(("Content-Length", str(len(content))))
        start_response(f"{code} {HTTPStatus(code).phrase}", headers)
        return [] if method == "HEAD" else [content]


def _namespace(name: str) -> Json:
    meta = {"name": name, "labels": {"kubernetes.io/metadata.name": name}}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": meta, "status": {"phase": "Active"}}
