"""The agent role put together: dial the server, serve its streams, dial again."""

import logging
import sys
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import gevent
from gevent.event import Event

import argotun
from argotun import process
from argotun.agent.backoff import Backoff
from argotun.agent.credentials import ServerToken, TokenFile
from argotun.agent.upstream import Upstream
from argotun.config import AgentConfig
from argotun.config.network import show_address
from argotun.errors import ArgotunError, CredentialError, NameLost
from argotun.observe.access import AccessLog, LogRequest
from argotun.observe.logs import fields
from argotun.observe.metrics import AgentMetrics
from argotun.observe.probes import HealthServer, Probes
from argotun.transport.connect import connect
from argotun.transport.dial import dial
from argotun.transport.proxy import Proxy, proxy_for
from argotun.transport.tls import ClientTls, handshake_client
from argotun.tunnel.tunnel import Tunnel
from argotun.wire.frames import NOT_ALLOWED, REPLACED, SUBPROTOCOL, V1, V2
from argotun.wire.hello import Hello
from argotun.wire.mux import Multiplexer
from argotun.wire.streams import Stream

log = logging.getLogger("argotun.agent")


SETTLE = 0.1
"""Seconds, beside the round trip, that GOAWAY has to reach a server with a busy event loop."""


class KubernetesApi:
    """How the one API is reached, and with which credential."""

    def __init__(self, config: AgentConfig, metrics: AgentMetrics, access: AccessLog) -> None:
        self.metrics = metrics
        self._access = access.request
        self.log_request: LogRequest = self._record
        self.address = show_address(config.target)
        self._target = config.target
        self._timeout = config.dial_timeout
        self.stall_timeout = config.stall_timeout
        self._name = config.target_host_name or config.target[0]
        self.host = config.target_host_name.encode() if config.target_host_name else _host_field(config)
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
            self._token = TokenFile(config.sa_token_path, lambda: metrics.reload_errors("token"))

    def dial(self) -> Any:
        """A new connected socket; TransportError says what went wrong."""
        host, port = self._target
        sock = dial(host, port, self._timeout)
        if self.tls is None:
            return sock
        return handshake_client(sock, self.tls.context(), self._name, self._timeout)

    def credential(self) -> bytes:
        """The Authorization field line of this request; CredentialError when there is none to send."""
        return self._token.header() if self._token is not None else b""

    def _record(
        self,
        cluster: str,
        method: bytes,
        path: bytes,
        status: int,
        bytes_in: int,
        bytes_out: int,
        seconds: float,
        stream_id: int,
        audit_id: bytes | None,
    ) -> None:
        """Count an answered request's bytes and write its access line."""
        self.metrics.bytes_in += bytes_in
        self.metrics.bytes_out += bytes_out
        self._access(cluster, method, path, status, bytes_in, bytes_out, seconds, stream_id, audit_id)


class Agent:
    """Everything that `--mode agent` runs; `connected` is set while a tunnel is up."""

    def __init__(self, config: AgentConfig) -> None:
        self.config = config
        self.metrics = AgentMetrics()
        self.access = AccessLog(config.access_log, config.log_format, sys.stdout)
        self.metrics.access_log = self.access
        self.api = KubernetesApi(config, self.metrics, self.access)
        self.connected = Event()
        self.tunnels: list[Tunnel] = []
        self.draining = False
        self._backoff = Backoff(config.max_retry)
        self._token = ServerToken(
            config.token, config.token_file, lambda: self.metrics.reload_errors("token")
        )
        self._server_tls: ClientTls | None = None
        if config.server.startswith("wss:"):
            self._server_tls = ClientTls(config.server_ca_cert, config.client_cert, config.client_key)
            self.metrics.watch_certificates(self._server_tls)
        self._probes = Probes(self.connected.is_set, self.metrics, self._status, lambda: "not connected")
        self._health = HealthServer(*config.health_addr, self._probes) if config.health_addr else None
        self._greenlets: list[gevent.Greenlet] = []
        self._last_error = ""

    @property
    def health_address(self) -> tuple[str, int] | None:
        """Where the probes listen."""
        return self._health.address if self._health is not None else None

    def start(self) -> None:
        """Bind the health port and begin to dial; ConfigError when the port cannot be had."""
        if self._health is not None:
            self._health.start()
        self._greenlets = [gevent.spawn(self._keep_connected), gevent.spawn(self._measure)]
        log.info("agent starts", extra=fields(server=self.config.server, target=self.api.address))

    def drain(self) -> None:
        """End in order: tell the server, finish the requests in progress, then stop."""
        if self.draining:
            return
        self.draining = True
        self._greenlets.pop(0).kill(block=False)
        self.connected.clear()
        log.info("draining", extra=fields(seconds=self.config.drain))
        for tunnel in self.tunnels:
            tunnel.mux.goaway("the agent is draining")
        deadline = monotonic() + self.config.drain
        # What the server sent before it heard of the drain still arrives, and is served.
        settled = min(deadline, monotonic() + SETTLE + max((t.rtt for t in self.tunnels), default=0.0))
        while (now := monotonic()) < deadline and (now < settled or any(map(self._busy, self.tunnels))):
            gevent.sleep(0.05)
        self.stop()

    def stop(self) -> None:
        """End at once."""
        self.draining = True
        gevent.killall(self._greenlets, block=False)
        for tunnel in list(self.tunnels):
            tunnel.end("the agent ends")
        if self._health is not None:
            self._health.stop()
        self.access.close()

    # ── the tunnel ─────────────────────────────────────────────────────────────────────────────

    def _keep_connected(self) -> None:
        """Dial, wait until the tunnel ends or its server drains, and dial again."""
        while True:
            try:
                tunnel, leave = self._dial()
            except (ArgotunError, OSError) as error:
                delay = self._backoff.delay(bool(self.tunnels), isinstance(error, NameLost))
                self._pause(f"cannot connect: {error}", delay)
                continue
            except Exception as error:
                # An agent that no longer dials would be alive and of no use for ever.
                log.exception("a fault in argotun")
                self._pause(f"cannot connect: {error}", self._backoff.delay())
                continue
            finally:
                self.metrics.reconnects += 1
            leave.wait()
            self._backoff.lived(monotonic() - tunnel.since)
            if tunnel.ended.is_set():
                self._pause(f"the tunnel ended: {tunnel.reason}", self._backoff.delay())
            else:
                # The old tunnel serves until its streams end; a server that says so again and again
                # is not dialled again and again.
                gevent.sleep(self._backoff.handover())

    def _dial(self) -> tuple[Tunnel, Event]:
        """A new tunnel that is being served, and the event that asks for another one."""
        config = self.config
        url = urlsplit(config.server)
        host, port = url.hostname or "", url.port or (443 if url.scheme == "wss" else 80)
        proxy = proxy_for(host, port, {}, config.proxy)
        sock = self._dial_server(host, port, proxy)
        try:
            token = self._token.current()
            headers = [("Authorization", f"Bearer {token}")]
            socket = connect(sock, config.server, headers, (SUBPROTOCOL,), config.dial_timeout)
        except BaseException:
            sock.close()
            raise
        profile = V2 if socket.subprotocol == SUBPROTOCOL else V1
        mux = Multiplexer(
            profile,
            opener=False,
            ours=Hello(release=argotun.__version__, max_streams=config.max_conns, target=self.api.address),
            budget=config.tunnel_buffer,
        )
        tunnel = Tunnel(socket, mux, keepalive=config.keepalive, keepalive_timeout=config.keepalive_timeout)
        leave = Event()
        mux.accept = lambda stream, target: self._accept(tunnel, stream, target)
        mux.on_hello = lambda theirs: self._arrived(tunnel, theirs)
        mux.on_goaway = lambda text: self._sent_away(text, leave)
        self.tunnels.append(tunnel)
        if profile is V1:
            self._arrived(tunnel, Hello())
        gevent.spawn(self._serve, tunnel, leave)
        return tunnel, leave

    def _dial_server(self, host: str, port: int, proxy: Proxy | None) -> Any:
        timeout = self.config.dial_timeout
        sock = dial(host, port, timeout, proxy)
        if self._server_tls is None:
            return sock
        return handshake_client(sock, self._server_tls.context(), host, timeout)

    def _serve(self, tunnel: Tunnel, leave: Event) -> None:
        try:
            tunnel.run()
        finally:
            self.tunnels.remove(tunnel)
            if not self.tunnels:
                self.connected.clear()
                self.metrics.connected = 0
            leave.set()

    def _arrived(self, tunnel: Tunnel, theirs: Hello) -> None:
        if theirs.target and theirs.target != self.api.address:
            log.warning(
                "the server's clusters file names target %s for this cluster, but this agent serves %s only: "
                "its requests will be refused",
                theirs.target,
                self.api.address,
            )
        self._last_error = ""
        if not self.draining:
            self.connected.set()
            self.metrics.connected = 1
        log.info("connected", extra=fields(server=self.config.server, version=tunnel.version))

    def _sent_away(self, text: str, leave: Event) -> None:
        log.info("the server sends this tunnel away: %s", text)
        if text == REPLACED:
            # Dialling at once would replace the other agent in turn, and so for ever.
            self._backoff.replaced()
        else:
            leave.set()

    def _accept(self, tunnel: Tunnel, stream: Stream, target: str) -> None:
        if target and target != self.api.address:
            log.warning("a stream to %s was refused: only %s is served", target, self.api.address)
            tunnel.mux.reset(stream, NOT_ALLOWED)
            return
        stream.sink = Upstream(self.api, tunnel, stream)

    def _busy(self, tunnel: Tunnel) -> bool:
        return tunnel.unsent or any(
            isinstance(stream.sink, Upstream) and stream.sink.busy for stream in tunnel.mux.streams.values()
        )

    def _pause(self, problem: str, delay: float) -> None:
        """Wait before the next dial, and say why once for each different thing; the rest is for debug."""
        level = logging.DEBUG if problem == self._last_error else logging.WARNING
        self._last_error = problem
        log.log(level, "%s", problem, extra=fields(retry_seconds=round(delay, 1)))
        gevent.sleep(delay)

    def _measure(self) -> None:
        """Keep the gauges no older than a second, and look at the files as often."""
        metrics = self.metrics
        while True:
            gevent.sleep(1.0)
            metrics.active = sum(len(tunnel.mux.streams) for tunnel in self.tunnels)
            metrics.rtt = self.tunnels[-1].rtt if self.tunnels else 0.0
            metrics.window_exhausted += sum(tunnel.take_exhausted() for tunnel in self.tunnels)
            self._look_at_files()

    def _look_at_files(self) -> None:
        """Let those that cannot be used be reported now, and not at a dial months from now."""
        for tls in filter(None, (self._server_tls, self.api.tls)):
            tls.context()
        for token in (self._token.current, self.api.credential):
            try:
                token()
            except CredentialError:
                # Whoever needs it says what that means.
                pass

    def _status(self) -> dict[str, object]:
        return {
            "version": argotun.__version__,
            "server": self.config.server,
            "target": self.api.address,
            "connected": self.connected.is_set(),
            "draining": self.draining,
            "lastError": self._last_error,
            "tunnels": [
                {
                    "version": tunnel.version,
                    "streams": len(tunnel.mux.streams),
                    "rttSeconds": round(tunnel.rtt, 6),
                    "connectedSeconds": round(monotonic() - tunnel.since, 1),
                }
                for tunnel in self.tunnels
            ],
        }


def run(config: AgentConfig) -> int:
    """Serve until SIGTERM or SIGINT, then drain; the process's exit code."""
    return process.run(Agent(config))


def _host_field(config: AgentConfig) -> bytes:
    """The Host of the API: without the port where that is the scheme's own."""
    port = config.target[1]
    usual = 80 if config.plain_target else 443
    text = show_address(config.target)
    return (text.rsplit(":", 1)[0] if port == usual else text).encode("ascii", "replace")
