"""Server, agents and API as in `tests.rig`, with Envoy between the agents and the public port.

with Stage(render(values).objects) as stage:
    stage.start_agent()
    assert stage.get().status == 200
"""

import ssl
from collections.abc import Iterable
from typing import Any, Self

from gevent import socket

from bench.ports import free_port
from tests.gateways.envoy import Envoy
from tests.gateways.model import DEFAULTS, Site, Timeouts, envoy_config
from tests.rig import Peer, Rig

DOMAIN = ".example.com"
HOST = f"argotun{DOMAIN}"
SECRET = "gateway-tls"
"""Secret that has a gateway's own certificate."""


class Stage(Rig):
    """A Rig whose agents come through Envoy, which runs what the chart rendered.

    Until the `with` begins, `pods` takes the ports of more Services than argotun's, and `secrets` more
    certificates of the gateway.
    """

    def __init__(
        self,
        objects: list[dict[str, Any]],
        *,
        passthrough: bool = True,
        timeouts: Timeouts = DEFAULTS,
        cilium: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(agent=None, mutual=passthrough, **options)
        self._objects = objects
        self._timeouts = timeouts
        self._cilium = cilium
        self.pods: dict[str, int] = {}
        certificate, key = self.issue("public", HOST)
        self.secrets = {SECRET: (certificate, key)}
        if passthrough:
            self._server_options = {**self._server_options, "tls_cert": certificate, "tls_key": key}
        self.ports = {port: free_port() for port in gateway_ports(objects)}
        self.port = self.ports[443]
        self.envoy: Envoy = None  # type: ignore[assignment]  there once the `with` has begun

    def issue(self, name: str, *identities: str) -> tuple[str, str]:
        """Paths of a fresh certificate for these names and of its key."""
        issued = self.authority.ca.issue_cert(*identities)
        issued.private_key_pem.write_to_path(self.authority.path(f"{name}.key"))
        with open(self.authority.path(f"{name}.pem"), "wb") as file:
            file.writelines(part.bytes() for part in issued.cert_chain_pems)
        return self.authority.path(f"{name}.pem"), self.authority.path(f"{name}.key")

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self.envoy = self.another_envoy()
            self.envoy.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        if self.envoy:
            self.envoy.__exit__()

    def another_envoy(self) -> Envoy:
        """An Envoy for the same objects and port, not started."""
        site = Site(
            pods={"argotun": self.server.public_address[1], **self.pods},
            ports=self.ports,
            secrets=self.secrets,
            cilium=self._cilium,
            timeouts=self._timeouts,
        )
        return Envoy(envoy_config(self._objects, site))

    def agent_config(self, **options: Any) -> Any:
        """As the agents of Rig, but they dial the gateway's name and port."""
        through = {
            "server": f"wss://{HOST}:{self.port}/connect",
            "server_ca_cert": self.authority.path("ca.pem"),
            "client_cert": self.authority.path("agent.pem"),
            "client_key": self.authority.path("agent.key"),
        }
        return super().agent_config(**(through | options))

    def refusals(self, reason: str) -> int:
        """How many agents the server has refused for that reason."""
        return dict(self.server.metrics._auth_failures).get(reason, 0)

    def tls(self, name: str | None, port: int | None = None, alpn: Iterable[str] = ()) -> Peer:
        """A TLS connection to the gateway that asks for `name`, with the agent's certificate.

        Raises OSError when the gateway has nothing for that name.
        """
        context = ssl.create_default_context(cafile=self.authority.path("ca.pem"))
        context.check_hostname = False
        context.load_cert_chain(self.authority.path("agent.pem"), self.authority.path("agent.key"))
        if alpn:
            context.set_alpn_protocols(list(alpn))
        sock = socket.create_connection(("127.0.0.1", port or self.port))
        return self.keep(Peer(context.wrap_socket(sock, server_hostname=name)))


def gateway_ports(objects: list[dict[str, Any]]) -> list[int]:
    """The ports on which the Gateways among the objects listen."""
    ports = []
    for each in objects:
        if each["kind"] == "Gateway":
            ports += [listener["port"] for listener in each["spec"].get("listeners", [])]
            ports += [server["port"]["number"] for server in each["spec"].get("servers", [])]
    return ports
