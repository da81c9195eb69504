"""What an agent would do with these options: its files, the way to the server, and its own API.

Each step on the way is the agent's own (`Connector.approach`, `KubernetesApi.approach`): what fails here
would fail there. Two things differ, so that no agent that is connected gives way to a check. Before the
upgrade the server is asked without one, since a server of version 1 takes an agent up as it answers one; and
behind it the server's HELLO is heard and none is said.
"""

from contextlib import closing
from dataclasses import dataclass
from time import monotonic
from typing import Any

from argotun.address import host_port
from argotun.agent.api import KubernetesApi
from argotun.agent.connector import Connector
from argotun.agent.policy import PolicyFile
from argotun.check import api, certificates, clock, tokens
from argotun.check.steps import Walk
from argotun.config import AgentConfig
from argotun.errors import ArgotunError
from argotun.observe.metrics import AgentMetrics
from argotun.transport import MessageSocket
from argotun.transport.connect import knock
from argotun.transport.lookout import Lookout
from argotun.transport.reply import Reply, read_reply
from argotun.transport.tls import ClientTls
from argotun.tunnel.greeting import greeting
from argotun.wire.frames import SUBPROTOCOL

NAMES = {
    "resolve": "server.dns",
    "connect": "server.tcp",
    "proxy": "server.proxy",
    "tls": "server.tls",
    "upgrade": "server.upgrade",
}
"""What a step of the agent's is called here, in their order."""


def walk(config: AgentConfig, found: Walk) -> None:
    """Walk it all; a part that cannot be begun for want of the one before it is left out."""
    metrics = AgentMetrics()
    connector, target, policy = _parts(config, metrics, found)
    if connector is not None and _files(config, connector, found):
        _Way(config, connector, found).walk()
    if target is not None:
        api.walk(config, target, metrics, policy, found)


def files(config: AgentConfig, found: Walk) -> None:
    """Read what the options name."""
    connector, target, policy = _parts(config, AgentMetrics(), found)
    if connector is not None:
        _files(config, connector, found)
    if target is not None:
        api.files(config, target, found)
    if policy is not None:
        api.judge(policy, found)


def _parts(
    config: AgentConfig, metrics: AgentMetrics, found: Walk
) -> tuple[Connector | None, KubernetesApi | None, PolicyFile | None]:
    """The agent's own parts that read files, None for what there is none of, or which cannot be had."""
    lookout = Lookout(config.ack_timeout)
    connector = found.attempt("server.files", lambda: Connector(config, metrics, lookout, _nobody, _nobody))
    target = found.attempt("api.files", lambda: KubernetesApi(config, metrics, 1, lookout))
    policy = None
    if config.policy is not None:
        path = config.policy
        policy = found.attempt("policy", lambda: PolicyFile(path, metrics))
    return connector, target, policy


def _nobody(*_: object) -> None:
    """No tunnel comes to be."""


def _files(config: AgentConfig, connector: Connector, found: Walk) -> bool:
    """Look at what the server is to be shown; whether there is a token."""
    token = found.attempt("server.token", connector.token.current)
    if token is None:
        return False
    tokens.look(found, "server.token", token.encode(), tokens.origin(config))
    if config.client_cert is not None:
        shown = certificates.of_file(config.client_cert)
        end = connector.tls.expiry()["certificate"] if connector.tls else shown.ends
        says = f"this agent's certificate is that of {shown.names}, and"
        certificates.look(found, "server.cert", says, end)
    if config.server_ca_cert is not None and connector.tls is not None:
        says = f"the CA in {config.server_ca_cert}"
        certificates.look(found, "server.ca", says, connector.tls.expiry()["ca"])
    return True


@dataclass(slots=True)
class _Way:
    """The way to the server."""

    config: AgentConfig
    connector: Connector
    found: Walk

    def walk(self) -> None:
        """As far as the agent's own way leads without becoming an agent of the server."""
        with closing(self.connector.approach()) as steps:
            sock = self.found.approach(steps, NAMES, "tls", self._tell)
            if sock is None:
                self._look_closer()
                return
            answer = self._knock(sock)
        if answer is None:
            return
        # The answer to the first question ended its connection.
        with closing(self.connector.approach()) as steps:
            socket = self.found.approach(steps, NAMES, "upgrade")
            if isinstance(socket, MessageSocket):
                self.found.ok("server.upgrade", f"the way carries a WebSocket ({socket.subprotocol})")
                self._greet(socket)

    def _tell(self, name: str, given: Any) -> None:
        proxy = self.config.proxy
        if name == "resolve":
            host = proxy.host if proxy is not None else self.config.server.host
            addresses = ", ".join(dict.fromkeys(str(address[4][0]) for address in given))
            self.found.ok(NAMES[name], f"{host} is dialled at {addresses}")
        elif name == "connect":
            whom = "the proxy" if proxy is not None else "the server's port"
            self.found.ok(NAMES[name], f"{whom} answers at {host_port(*given.getpeername()[:2])}")
        elif name == "proxy" and proxy is not None:
            self.found.ok(NAMES[name], f"{host_port(proxy.host, proxy.port)} lets this agent through")
        elif name == "tls" and self.connector.tls is not None:
            version = f"{given.version()}"
            certificates.tell(
                self.found,
                NAMES[name],
                given,
                lambda names: f"{version}; the server's certificate is that of {names}, and",
                version,
                "renew it on the server's side",
            )
        elif name == "tls":
            self.found.warn(
                NAMES[name],
                "the server is dialled without TLS: anyone on the way can read the token and every request",
                "use a wss:// URL",
            )

    def _knock(self, sock: Any) -> Reply | None:
        """Ask whether we would be let in, and what time it is there."""
        headers = [("Authorization", f"Bearer {self.connector.token.current()}")]
        try:
            server, patience = self.config.server, self.config.dial_timeout
            reply = knock(sock, server.name, server.target, headers, patience)
        except ArgotunError as error:
            self.found.fail("server.access", str(error))
            return None
        clock.look(self.found, reply.fields.get("date", ""), "the server")
        if reply.fields.get("sec-websocket-version") != "13":
            self.found.warn(
                "server.access",
                "the server may be one of version 1, which takes an agent up with its first answer: a check "
                "would take the place of the agent that is connected, and ends here",
                "bring the server up to date, or look at the agent's own log",
            )
            return None
        certificate = " and the certificate" if self.config.client_cert else ""
        self.found.ok("server.access", f"the server accepts the token{certificate}")
        return reply

    def _greet(self, socket: MessageSocket) -> None:
        """Hear who we are to the server."""
        if socket.subprotocol != SUBPROTOCOL:
            self.found.warn("server.hello", "the server speaks version 1 here", "bring the server up to date")
            return
        try:
            theirs = greeting(socket, self.config.dial_timeout)
            socket.close(1000, "a check, which is over")
        except ArgotunError as error:
            self.found.fail("server.hello", str(error))
            return
        target = host_port(*self.config.target)
        release = theirs.release or "without a release"
        who = f"the server (argotun {release}) knows this agent as cluster {theirs.cluster!r}"
        if theirs.target and theirs.target != target:
            self.found.fail(
                "server.hello",
                f"{who}, and its clusters file names target {theirs.target} for it, but this agent serves "
                f"{target} only: requests would be refused",
                "name the same with --target here and targetAddr there, or leave targetAddr out",
            )
            return
        self.found.ok("server.hello", f"{who}; nothing was said to it, so no agent gave way to this check")

    def _look_closer(self) -> None:
        """Where TLS failed, say what the other side shows and what time it has: mostly it is one of both."""
        if self.connector.tls is None or self.found.findings[-1].step != NAMES["tls"]:
            return
        config = self.config
        try:
            # Nothing secret is sent to whoever that is.
            self.connector.tls = ClientTls(None, config.client_cert, config.client_key, insecure=True)
            with closing(self.connector.approach()) as steps:
                sock: Any = next(given for name, given in steps if name == "tls")
                shown = certificates.of_socket(sock)
                if shown is not None:
                    said = (
                        f"who answers there shows a certificate of {shown.names}, made by {shown.issuer}; it"
                    )
                    self.found.warn(
                        "server.shows",
                        f"{said} {certificates.until(shown.ends)}",
                        "compare these names with --server, and who made it with --server-ca-cert",
                    )
                sock.sendall(b"GET / HTTP/1.1\r\nHost: argotun\r\nConnection: close\r\n\r\n")
                date = read_reply(sock, monotonic() + config.dial_timeout, "the server").fields.get(
                    "date", ""
                )
                if date:
                    clock.look(self.found, date, "the server")
        except (ArgotunError, OSError, StopIteration):
            # There is nothing to be seen.
            pass
