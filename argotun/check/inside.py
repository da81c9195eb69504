"""`--from-inside`: calls as Argo CD would, each cluster's API by its version, through all between."""

import json
from collections.abc import Iterable
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from argotun import USER_AGENT
from argotun.check import certificates
from argotun.check.steps import Walk
from argotun.config import ServerConfig
from argotun.config.values import LONGEST_TOKEN
from argotun.errors import ArgotunError
from argotun.files import read
from argotun.transport.dial import Destination
from argotun.transport.explain import explain
from argotun.transport.reply import printable
from argotun.transport.tls import ClientTls, handshake_client

TIMEOUT = 10.0
"""Seconds for the dial, the handshake, and each answer."""

LARGEST = 64 * 1024
"""Bytes of an answer that are read."""

MOST = 100
"""Clusters that are called."""


def walk(config: ServerConfig, url: str, clusters: Iterable[str], found: Walk) -> None:
    """Call each cluster, on one connection."""
    try:
        caller = _Caller(config, url, found)
    except ArgotunError as error:
        found.fail("inside", str(error))
        return
    except OSError as error:
        found.fail("inside", f"--from-inside-token-file: {(error.strerror or 'it cannot be read').lower()}")
        return
    names = list(clusters)
    for name in names[:MOST]:
        if not caller.ask(name):
            break
    caller.close()
    if len(names) > MOST:
        found.warn("inside", f"{len(names) - MOST} more clusters were not called", "call those by hand")


class _Caller:
    """A connection to the internal port, made by the project's own dialler."""

    def __init__(self, config: ServerConfig, url: str, found: Walk) -> None:
        parts = urlsplit(url)
        host = parts.hostname or ""
        self._found = found
        self._base = parts.path.rstrip("/")
        self._place = Destination(host, parts.port or (443 if parts.scheme == "https" else 80), TIMEOUT)
        self._name = host
        self._connection = HTTPConnection(parts.netloc, timeout=TIMEOUT)
        self._headers = {"User-Agent": USER_AGENT, "Accept": "application/json"}
        if config.from_inside_token_file is not None:
            token = read(config.from_inside_token_file, LONGEST_TOKEN + 1024).data.decode("latin-1").strip()
            self._headers["Authorization"] = f"Bearer {token}"
        self._tls: ClientTls | None = None
        if parts.scheme == "https":
            # Who has the very certificate that this server shows needs no CA to know it by.
            self._tls = ClientTls(
                config.tls_cert,
                config.from_inside_cert,
                config.from_inside_key,
                options=("--tls-cert", "--from-inside-cert", "--from-inside-key"),
            )

    def ask(self, cluster: str) -> bool:
        """Call one cluster; whether another one is worth a try."""
        step = f"inside {cluster}"
        connection = self._connection
        try:
            if connection.sock is None:
                connection.sock = self._dial()
            connection.request("GET", f"{self._base}/tunnel/{cluster}/version", headers=self._headers)
            answer = connection.getresponse()
            body = answer.read(LARGEST)
        except HTTPException as error:
            self._found.fail("inside", f"the port does not answer in HTTP/1.1 ({type(error).__name__})")
            return False
        except OSError as error:
            self._found.fail("inside", f"the port does not answer: {explain(error)}", _todo(explain(error)))
            return False
        except ArgotunError as error:
            self._found.fail("inside", str(error), _todo(str(error)))
            return False
        version, said = _words(body)
        if answer.status == 200:
            self._found.ok(
                step, f"its API answers through the tunnel: Kubernetes {version or 'of no version'}"
            )
        elif said.startswith("argotun: ") or answer.status in (502, 503, 504):
            self._found.fail(step, f"{answer.status}: {said}", _todo(said))
        else:
            self._found.warn(
                step,
                f"its API, or what is before it, answers {answer.status}: {said}",
                "look at the rights of the agent's ServiceAccount, and at what is before argotun",
            )
        return True

    def close(self) -> None:
        """Call no more."""
        self._connection.close()

    def _dial(self) -> object:
        sock = self._place.dial()
        if self._tls is not None:
            sock = handshake_client(sock, self._tls.context(), self._name, TIMEOUT)
            certificates.tell(
                self._found,
                "inside.tls",
                sock,
                lambda names: f"the port shows the certificate of {names}, which",
            )
        sock.settimeout(TIMEOUT)
        return sock


TODO = (
    ("requires a client certificate", "name Argo CD's with --from-inside-cert and --from-inside-key"),
    ("is not a caller", "name it in --internal-client-names or in the callers file"),
    (
        "nobody is known here",
        "name Argo CD's certificate with --from-inside-cert, or --from-inside-token-file",
    ),
    ("no agent", "start the agent, or run argotun check agent beside it"),
    ("cannot reach its API", "run argotun check agent beside the agent"),
    ("", "the server's log says why at this moment"),
)
"""Words of an answer, and what to do."""


def _todo(said: str) -> str:
    return next(todo for words, todo in TODO if words in said)


def _words(body: bytes) -> tuple[str, str]:
    """The version that a body names, and its message or its own text."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return "", printable(body.decode("utf-8", "replace"))
    if not isinstance(said, dict):
        return "", ""
    version, message = said.get("gitVersion"), said.get("message")
    return (
        printable(version) if isinstance(version, str) else "",
        printable(message) if isinstance(message, str) else "",
    )
