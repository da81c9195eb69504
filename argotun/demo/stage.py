"""What a demo runs on: API, server and agent in this process, free loopback ports, temporary files."""

import json
import secrets
import shutil
import ssl
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any, Self

import gevent

from argotun.address import host_port
from argotun.agent.app import Agent
from argotun.config import AgentConfig, DemoConfig, PkiConfig, ServerConfig
from argotun.config.network import parse_server_url
from argotun.demo import kubeconfig
from argotun.demo.kubeconfig import Target, put
from argotun.demo.standin import StandIn
from argotun.errors import ArgotunError
from argotun.pki.folder import Folder
from argotun.pki.values import cert_name
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
        self.encrypted = False
        """Whether there are certificates."""
        self.stand_in: StandIn | None = None
        self.target: Target
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
        return f"http://{host_port(*self.server.internal_address)}"

    @property
    def tunnel_url(self) -> str:
        """Where the API is reached through the tunnel."""
        return f"{self.url}/tunnel/{CLUSTER}"

    def _set_up(self) -> None:
        self.encrypted = self._make_certificates()
        if self._config.kubeconfig:
            self.target = kubeconfig.read(self._config.kubeconfig, self._config.context, self._folder)
            self._keep_token(self.target)
        else:
            self.target = self._start_stand_in()
        token = secrets.token_urlsafe(24)
        self._start_server(token)
        self._start_agent(token)

    def _make_certificates(self) -> bool:
        """As for an installation; whether there is an openssl that can do it."""
        url = parse_server_url(f"wss://{_LOOPBACK[0]}")
        config = PkiConfig(pki_folder=str(self._folder), pki_server=url, pki_clusters=(CLUSTER,), pki_days=1)
        try:
            Folder(config).fill()
        except ArgotunError:
            return False
        return True

    def _made(self, name: str) -> str | None:
        return str(self._folder / name) if self.encrypted else None

    def _put(self, name: str, text: str) -> str:
        return put(self._folder / name, text.encode())

    def _keep_token(self, target: Target) -> None:
        if target.plugin is not None and target.agent.sa_token_path and target.ends is not None:
            keeper = gevent.spawn(target.plugin.renew, target.agent.sa_token_path, target.ends)
            self.callback(keeper.kill, block=False)

    def _start(self, role: Agent | Server | StandIn) -> None:
        role.start()
        self.callback(role.stop)

    def _start_stand_in(self) -> Target:
        tls = None
        if self.encrypted:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(self._folder / "server.crt", self._folder / "server.key")
        self.stand_in = StandIn(tokens={self.agent_token: STAND_IN_USER}, tls=tls)
        self._start(self.stand_in)
        return Target(
            AgentConfig(
                target=self.stand_in.address,
                sa_token_path=self._put("service-account-token", self.agent_token),
                ca_cert=self._made("ca.crt"),
                plain_target=not self.encrypted,
            )
        )

    def _start_server(self, token: str) -> None:
        entry: dict[str, Any] = {"id": CLUSTER, "token": token}
        if self.encrypted:
            entry["certNames"] = [cert_name(CLUSTER)]
        self.server = Server(
            ServerConfig(
                clusters=self._put("clusters.json", json.dumps([entry])),
                addr=_LOOPBACK,
                internal_addr=_LOOPBACK,
                internal_plain=True,
                public_connections=_CONNECTIONS,
                internal_connections=_CONNECTIONS,
                tls_cert=self._made("server.crt"),
                tls_key=self._made("server.key"),
                tls_client_ca=self._made("ca.crt"),
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

    def _start_agent(self, token: str) -> None:
        where = host_port(*self.server.public_address)
        agent = Agent(
            replace(
                self.target.agent,
                server=parse_server_url(f"{'wss' if self.encrypted else 'ws'}://{where}"),
                token=token,
                allow_insecure_server=not self.encrypted,
                server_ca_cert=self._made("ca.crt"),
                client_cert=self._made(f"agents/{CLUSTER}/tls.crt"),
                client_key=self._made(f"agents/{CLUSTER}/tls.key"),
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
