"""What a demo runs on: API, server and agent in this process, free loopback ports, temporary files."""

import json
import secrets
import shutil
import ssl
import tempfile
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any, Self

import gevent

from argotun.agent.app import Agent
from argotun.config import AgentConfig, DemoConfig, ServerConfig
from argotun.config.network import parse_server_url
from argotun.demo import certificates, kubeconfig
from argotun.demo.certificates import AGENT_NAME, Certificates
from argotun.demo.kubeconfig import Upstream, write_private
from argotun.demo.standin import StandIn
from argotun.errors import ArgotunError
from argotun.server.app import Server

CLUSTER = "demo"
"""The cluster id under which the API is reached."""

STAND_IN_USER = "system:serviceaccount:argotun:agent"
"""Whom the stand-in API takes the agent's token for."""

CONNECT_TIMEOUT = 15.0
"""Seconds for the agent to connect; on loopback it takes some milliseconds."""

SETTLE = 1.0
"""Seconds for what has ended to say so; it takes a turn or two of the event loop."""

_LOOPBACK = ("127.0.0.1", 0)
_CONNECTIONS = 256  # to each port: more than an onlooker makes, and within every system's descriptors


class Stage(ExitStack):
    """Use it as a context: on entering everything is up and connected, on leaving nothing is left of it."""

    def __init__(self, config: DemoConfig) -> None:
        super().__init__()
        self._config = config
        self._folder = Path(tempfile.mkdtemp(prefix="argotun-demo-"))
        self.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self.agent_token = secrets.token_urlsafe(24)
        """The ServiceAccount token of the agent, where the API is the stand-in."""
        self.certificates: Certificates | None = None
        self.stand_in: StandIn | None = None
        self.upstream = Upstream(_LOOPBACK)
        self.server: Server

    def __enter__(self) -> Self:
        try:
            self._set_up()
        except BaseException:
            self.close()
            raise
        return self

    @property
    def url(self) -> str:
        """Of the server's internal port."""
        host, port = self.server.internal_address
        return f"http://{host}:{port}"

    @property
    def tunnel_url(self) -> str:
        """Where the API is reached through the tunnel."""
        return f"{self.url}/tunnel/{CLUSTER}"

    def _set_up(self) -> None:
        self.certificates = certificates.make(self._folder)
        if self._config.kubeconfig:
            self.upstream = kubeconfig.read(self._config.kubeconfig, self._config.context, self._folder)
            self._keep_token(self.upstream)
        else:
            self.upstream = self._start_stand_in()
        tunnel_token = secrets.token_urlsafe(24)
        self._start_server(tunnel_token)
        self._start_agent(tunnel_token)

    def _keep_token(self, upstream: Upstream) -> None:
        if upstream.plugin is not None and upstream.token and upstream.ends is not None:
            keeper = gevent.spawn(upstream.plugin.renew, upstream.token, upstream.ends)
            self.callback(keeper.kill, block=False)

    def _start(self, role: Agent | Server | StandIn) -> None:
        role.start()
        self.callback(role.stop)

    def _start_stand_in(self) -> Upstream:
        made = self.certificates
        tls = None
        if made is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(made.api.cert, made.api.key)
        self.stand_in = StandIn(tokens={self.agent_token: STAND_IN_USER}, tls=tls)
        self._start(self.stand_in)
        token = write_private(self._folder / "service-account-token", self.agent_token.encode())
        return Upstream(self.stand_in.address, token=token, ca=made.ca if made else None, plain=made is None)

    def _start_server(self, tunnel_token: str) -> None:
        made = self.certificates
        entry: dict[str, Any] = {"id": CLUSTER, "token": tunnel_token}
        if made is not None:
            entry["certNames"] = [AGENT_NAME]
        self.server = Server(
            ServerConfig(
                clusters=write_private(self._folder / "clusters.json", json.dumps([entry]).encode()),
                addr=_LOOPBACK,
                internal_addr=_LOOPBACK,
                internal_plain=True,
                public_connections=_CONNECTIONS,
                internal_connections=_CONNECTIONS,
                tls_cert=made.server.cert if made else None,
                tls_key=made.server.key if made else None,
                tls_client_ca=made.ca if made else None,
                access_log=False,
                log_level=self._config.log_level,
                log_format=self._config.log_format,
            )
        )
        self.callback(self._settle)
        self._start(self.server)

    def _settle(self) -> None:
        """Let the end of the tunnel be told, before anything is said behind it."""
        deadline = monotonic() + SETTLE
        while len(self.server.registry) and monotonic() < deadline:
            gevent.sleep(0.01)

    def _start_agent(self, tunnel_token: str) -> None:
        made, upstream = self.certificates, self.upstream
        host, port = self.server.public_address
        agent = Agent(
            AgentConfig(
                server=parse_server_url(f"{'wss' if made else 'ws'}://{host}:{port}"),
                token_file=write_private(self._folder / "tunnel-token", tunnel_token.encode()),
                allow_insecure_server=made is None,
                server_ca_cert=made.ca if made else None,
                client_cert=made.agent.cert if made else None,
                client_key=made.agent.key if made else None,
                target=upstream.address,
                target_host_name=upstream.host_name,
                target_client_cert=upstream.client_cert,
                target_client_key=upstream.client_key,
                sa_token_path=upstream.token,
                ca_cert=upstream.ca,
                insecure=upstream.insecure,
                plain_target=upstream.plain,
                max_retry=1.0,
                health_addr=None,
                access_log=False,
                log_level=self._config.log_level,
                log_format=self._config.log_format,
            )
        )
        self._start(agent)
        if not agent.connected.wait(CONNECT_TIMEOUT):
            raise ArgotunError(f"the agent did not connect to the server within {CONNECT_TIMEOUT:.0f} s")
