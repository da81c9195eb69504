"""Whether the agent's own API can be asked, with the agent's credential: tried at start, and again and again.

A tunnel that is up says nothing of the API behind it. Nobody may ask for hours, and then it is Argo CD that
meets a wrong address, a CA of another cluster or a token of an account that is gone. So the agent asks for
`/version` itself, on a connection of its own: one that is kept has outlived a change of the CA or of the
address. kube-apiserver checks a credential with every request, so that a 401 there tells of the token too.
"""

import json
import logging
from http import HTTPStatus
from time import monotonic

import gevent

from argotun import USER_AGENT
from argotun.agent.api import KubernetesApi
from argotun.errors import ArgotunError, CredentialError
from argotun.observe.logs import fields
from argotun.observe.metrics import AgentMetrics
from argotun.transport.explain import explain
from argotun.transport.reply import printable, read_body, read_reply

log = logging.getLogger("argotun.agent")

SOON = 10.0
"""Seconds at most between two questions while there is no answer."""

TIMEOUT = 15.0
"""Seconds for the answer, behind the dial."""

_QUESTION = (
    b"GET /version HTTP/1.1\r\nHost: %b\r\nUser-Agent: %b\r\n"
    b"Accept: application/json\r\nConnection: close\r\n%b\r\n"
)


class Reach:
    """Keeps asking; `reachable` is None before the first answer, `problem` says why there was none.

    `version` is what the API calls itself, where it does; `since` when `reachable` became what it is, in
    monotonic seconds.
    """

    def __init__(self, api: KubernetesApi, metrics: AgentMetrics, every: float) -> None:
        """`every` is the time between two questions in seconds, 0 for none at all."""
        self.reachable: bool | None = None
        self.problem = ""
        self.version = ""
        self.since = monotonic()
        self._api = api
        self._every = every
        self._metrics = metrics

    def run(self) -> None:
        """Ask for as long as the process lives."""
        while self._every:
            self.look()
            gevent.sleep(self._every if self.reachable else min(self._every, SOON))

    def look(self) -> None:
        """Ask once; a change is told, and so is every other reason."""
        try:
            version = self.ask()
        except (ArgotunError, OSError) as error:
            self._failed(str(error) if isinstance(error, ArgotunError) else explain(error))
        else:
            self._answered(version)

    def ask(self) -> str:
        """The API's version, "" where it names none. Raises ArgotunError, or OSError, with a reason."""
        api = self._api
        credential = api.credential()
        sock = api.dial()
        try:
            deadline = monotonic() + TIMEOUT
            sock.sendall(_QUESTION % (api.host, USER_AGENT.encode(), credential))
            reply = read_reply(sock, deadline, "the API")
            if reply.status == HTTPStatus.UNAUTHORIZED:
                raise CredentialError("the API does not accept the agent's own credential (401)")
            if reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise ArgotunError(f"the API answers {reply.status} {printable(reply.reason)}".rstrip())
            return _named(read_body(sock, reply, deadline))
        finally:
            sock.close()

    def status(self) -> dict[str, object]:
        """For `/status`: what `apiReachable` and its kin say."""
        return {
            "apiReachable": self.reachable,
            "apiVersion": self.version,
            "apiProblem": self.problem,
            "apiSinceSeconds": round(monotonic() - self.since, 1),
        }

    def _answered(self, version: str) -> None:
        if not self.reachable:
            log.info("the API answers", extra=fields(target=self._api.address, version=version))
            self.since = monotonic()
        self.reachable, self.version, self.problem = True, version, ""
        self._metrics.api_reachable = 1

    def _failed(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("the API cannot be asked: %s", problem, extra=fields(target=self._api.address))
        if self.reachable is not False:
            self.since = monotonic()
        self.reachable, self.problem = False, problem
        self._metrics.api_reachable = 0


def _named(body: bytes) -> str:
    """`gitVersion` of what `/version` says; "" for anything else."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    version = said.get("gitVersion") if isinstance(said, dict) else None
    return printable(version) if isinstance(version, str) else ""
