"""A plain HTTP/1.1 client that shows an answer as it came: raw header list, body not decompressed."""

import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .pki import Pair


@dataclass(frozen=True)
class Answer:
    """What came back; body without chunked coding, but with its Content-Encoding."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first field of that name."""
        return next((v for k, v in self.headers if k.lower() == name.lower()), None)

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Endpoint:
    """An API at http(s)://127.0.0.1:port/prefix, and what a client of it sends and trusts."""

    port: int
    prefix: str = ""
    ca: Path | None = None  # none: plain HTTP
    certificate: Pair | None = None
    token: str | None = None

    @property
    def url(self) -> str:
        """What a kubeconfig calls the server."""
        return f"http{'s' if self.ca else ''}://127.0.0.1:{self.port}{self.prefix}"

    @contextmanager
    def connection(self, seconds: float = 30) -> Iterator[http.client.HTTPConnection]:
        """A connection; every read on it must answer within seconds."""
        if self.ca:
            context = ssl.create_default_context(cafile=str(self.ca))
            if self.certificate:
                context.load_cert_chain(self.certificate.cert, self.certificate.key)
            conn = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=seconds, context=context)
        else:
            conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            yield conn
        finally:
            conn.close()

    def headers(self, more: Mapping[str, str]) -> dict[str, str]:
        """The headers of each request of ours, with those of this one."""
        return {**({"Authorization": f"Bearer {self.token}"} if self.token else {}), **more}

    def send(
        self,
        conn: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | object = None,
        headers: Mapping[str, str] = {},
    ) -> http.client.HTTPResponse:
        """Send one request, and return its response before the body is read; an object goes out as JSON."""
        if body is not None and not isinstance(body, bytes):
            body, headers = json.dumps(body).encode(), {"Content-Type": "application/json", **headers}
        conn.request(method, self.prefix + path, body, self.headers(headers))
        return conn.getresponse()

    def __call__(
        self, method: str, path: str, body: bytes | object = None, headers: Mapping[str, str] = {}
    ) -> Answer:
        """One request on a connection of its own."""
        with self.connection() as conn:
            response = self.send(conn, method, path, body, headers)
            return Answer(response.status, tuple(response.getheaders()), response.read())

    def get(self, path: str, **headers: str) -> Answer:
        """GET; header names with _ for -."""
        return self("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})
