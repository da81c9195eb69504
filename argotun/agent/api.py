"""How the one API is reached, and with which credential."""

from collections.abc import Generator
from time import monotonic
from typing import Any

import gevent

from argotun.address import host_port
from argotun.agent.credentials import TokenFile
from argotun.agent.idle import IdleConnections
from argotun.agent.upstream import Upstream
from argotun.config import AgentConfig
from argotun.observe.metrics import AgentMetrics
from argotun.transport.dial import Destination
from argotun.transport.lookout import Lookout
from argotun.transport.tls import ClientTls, handshake_client

STEPS = ("resolve", "connect", "tls")
"""The way to the API, the last for one that speaks it; `approach` names each as it is done."""


class KubernetesApi:
    """The agent's target.

    `address` is `host:port` as the options name it, `host` the value of Host towards it, `origins` what its
    own absolute URLs begin with, in lower case. `stall_timeout` is how long it may take nothing of a request,
    in seconds, 0 for no limit; `lookout` looks whether its machine is there. `flushing` are the connections
    that nobody asks for any more and that still pass on last bytes; there may be `most_flushing` of them,
    beside those of the streams. `idle` are those that the next stream may have.
    """

    def __init__(
        self, config: AgentConfig, metrics: AgentMetrics, most_flushing: int, lookout: Lookout
    ) -> None:
        self.address = host_port(*config.target)
        self.stall_timeout = config.stall_timeout
        self.lookout = lookout
        self.most_flushing = most_flushing
        self.flushing: set[Upstream] = set()
        self.idle = IdleConnections(config.idle_conns)
        self._destination = Destination(*(config.target_at or config.target), config.dial_timeout)
        self._timeout = config.dial_timeout
        self._name = config.target_host_name or config.target[0]
        port = config.target[1]
        usual = 80 if config.plain_target else 443
        named = host_port(self._name, port)
        bare = named.rpartition(":")[0]
        self.host = (bare if config.target_host_name or port == usual else named).encode("ascii", "replace")
        self.origins = _origins(config, usual)
        self.tls: ClientTls | None = None
        if not config.plain_target:
            self.tls = ClientTls(
                ca=None if config.insecure else config.ca_cert,
                cert=config.target_client_cert,
                key=config.target_client_key,
                insecure=config.insecure,
                options=("--ca-cert", "--target-client-cert", "--target-client-key"),
                prefix="api_",
            )
            metrics.watch_certificates(self.tls)
        self._token = None
        if config.sa_token_path:
            self._token = TokenFile(
                config.sa_token_path, lambda: metrics.reload_errors("token"), gevent.get_hub().loop.now
            )

    def dial(self) -> Any:
        """A new connected socket; TransportError says what went wrong."""
        *_, (_, sock) = self.approach()
        return sock

    def take_idle(self) -> Any:
        """A connection that another stream has left, None where there is none; none of an older CA."""
        current = self.tls.context() if self.tls is not None else None
        while (sock := self.idle.take()) is not None:
            if current is None or sock.context is current:
                return sock
            sock.close()
        return None

    def approach(self) -> Generator[tuple[str, Any], None, None]:
        """Walk STEPS: gives the name of each that is done and what it gave, a connected socket at last.

        Raises TransportError, in words for a person; the step that failed is the one behind the last that
        was named.
        """
        deadline = monotonic() + self._timeout
        addresses = self._destination.resolve(deadline)
        yield "resolve", addresses
        sock = self._destination.connect(addresses, deadline)
        yield "connect", sock
        if self.tls is not None:
            sock = handshake_client(sock, self.tls.context(), self._name, self._timeout)
            yield "tls", sock

    def credential(self) -> bytes:
        """The Authorization field line of this request, b"" where a certificate is the credential.

        Raises CredentialError when there is none to send.
        """
        return self._token.header() if self._token is not None else b""


def _origins(config: AgentConfig, usual: int) -> frozenset[bytes]:
    """What an absolute URL of the API itself begins with, whether it names the usual port or not."""
    scheme = "http" if config.plain_target else "https"
    port = config.target[1]
    names = {config.target[0], config.target_host_name or config.target[0]}
    places = {host_port(name, port) for name in names}
    if port == usual:
        places |= {place.rpartition(":")[0] for place in places}
    return frozenset(f"{scheme}://{place}".lower().encode("ascii", "replace") for place in places)
