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
from typing import Any

from gevent.pool import Pool
from gevent.pywsgi import WSGIHandler, WSGIServer
from gevent.socket import IPPROTO_TCP, TCP_NODELAY

from argotun.demo.api import Api, Request
from argotun.demo.pods import READY_AFTER, Pods
from argotun.demo.resources import NAMESPACES, Json, StatusError, bad_request
from argotun.demo.store import Store

MAX_BODY = 3 * 1024 * 1024
"""Bytes of one request's body, as in Kubernetes."""

SEEN = 500
"""Requests that are remembered."""


class _Handler(WSGIHandler):  # type: ignore[misc]
    # A client that leaves in the middle of a watch is no error; over TLS it looks like these.
    ignored_socket_errors = (*WSGIHandler.ignored_socket_errors, ssl.SSL_ERROR_EOF, ssl.SSL_ERROR_ZERO_RETURN)

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

    `tokens` maps bearer tokens to user names: a request must bring one of them (401 otherwise). Without
    tokens, whoever can connect may come in.
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
        self.seen: deque[Request] = deque(maxlen=SEEN)
        self._api = Api(self.store, Pods(self.store, ready_after))
        self._tokens = tokens or {}
        # In a pool, so that stopping the server ends its connections too.
        options = {"spawn": Pool()} if tls is None else {"spawn": Pool(), "ssl_context": tls}
        self._server = _Server(
            address, self._wsgi, log=None, error_log=None, handler_class=_Handler, **options
        )

    def start(self) -> None:
        """Listen; returns when connections are accepted."""
        self._server.start()

    def stop(self) -> None:
        """Close the port, every connection and every watch."""
        self._server.stop(timeout=0.1)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on, once started."""
        host, port = self._server.address[:2]
        return host, port

    def _user(self, authorization: str) -> str:
        """Who asks; a 401 StatusError for nobody that may come in."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "bearer" and token in self._tokens:
            return self._tokens[token]
        if self._tokens:
            raise StatusError(401, "Unauthorized", "Unauthorized")
        return "system:anonymous"

    def _wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        sent = {k[5:].replace("_", "-").lower(): v for k, v in environ.items() if k.startswith("HTTP_")}
        sent["content-type"] = environ.get("CONTENT_TYPE", "")
        request = Request(environ["REQUEST_METHOD"], environ["PATH_INFO"], sent, environ["QUERY_STRING"])
        self.seen.append(request)
        try:
            user = "" if request.path == "/version" else self._user(sent.get("authorization", ""))
            body = environ["wsgi.input"].read(MAX_BODY + 1)
            if len(body) > MAX_BODY:
                raise StatusError(413, "RequestEntityTooLarge", f"more than {MAX_BODY} bytes")
            code, answer = self._api.answer(request._replace(body=body), user)
        except StatusError as refused:
            code, answer = refused.code, refused.status()
        except RecursionError:
            code, answer = 400, bad_request("the object is nested too deeply").status()
        headers = [("Content-Type", "application/json"), ("Server", "argotun-stand-in")]
        if audit_id := sent.get("audit-id"):
            headers.append(("Audit-Id", audit_id))
        if not isinstance(answer, dict):
            # A watch's head goes out at once, as from a real API: a client waits for it before it acts.
            start_response("200 OK", headers)(b"")
            return answer
        content = json.dumps(answer).encode() + b"\n"
        headers.append(("Content-Length", str(len(content))))
        start_response(f"{code} {HTTPStatus(code).phrase}", headers)
        return [content]


def _namespace(name: str) -> Json:
    meta = {"name": name, "labels": {"kubernetes.io/metadata.name": name}}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": meta, "status": {"phase": "Active"}}
