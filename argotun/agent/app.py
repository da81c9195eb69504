"""The agent role put together: a tunnel that is kept, streams forwarded to the API, a graceful end."""

import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from time import monotonic, time

import gevent
from gevent.event import Event

import argotun
from argotun import descriptors, process
from argotun.address import host_port
from argotun.agent.api import KubernetesApi
from argotun.agent.connector import Connector
from argotun.agent.forwarder import Forwarder
from argotun.agent.policy import PolicyFile
from argotun.agent.reach import Reach
from argotun.config import AgentConfig
from argotun.config.models import LAST_PART
from argotun.errors import CredentialError
from argotun.observe import tracing
from argotun.observe.access import AccessLog
from argotun.observe.logs import fields
from argotun.observe.metrics import AgentMetrics
from argotun.observe.probes import HealthServer, Probes
from argotun.observe.rates import Rates
from argotun.observe.request import Request
from argotun.seldom import Seldom
from argotun.transport.lookout import Lookout
from argotun.tunnel.channel import Channel
from argotun.tunnel.tunnel import Tunnel
from argotun.wire.hello import Hello, ample
from argotun.wire.reasons import DRAINING, ENDING, NOT_ALLOWED, STREAM_LIMIT
from argotun.wire.streams import Stream

log = logging.getLogger("argotun.agent")

API = "api"
"""The one name that an agent's rates have."""

SETTLE = 0.1
"""Seconds, beside the round trip, that GOAWAY has to reach a server with a busy event loop."""


class Agent:
    """Everything that `--mode agent` runs; `connected` is set while a tunnel is up."""

    def __init__(self, config: AgentConfig) -> None:
        # A stream is a connection to the API, and so a descriptor.
        streams, behind = descriptors.share(descriptors.allowed(), config.max_conns)
        self._few = streams < config.max_conns
        # What streams leave behind either waits for the next one, or passes on its last bytes.
        idle = min(config.idle_conns, streams // 8, behind // 2)
        self.config = config = replace(config, max_conns=streams, idle_conns=idle)
        self.metrics = AgentMetrics()
        self.access = AccessLog(config.access_log, config.log_format, sys.stdout)
        self.metrics.access_log = self.access
        self.tracing = tracing.start("argotun-agent", os.environ)
        self._report = tracing.ending(self.tracing, self.access.request)
        self._lookout = Lookout(config.ack_timeout)
        self.api = KubernetesApi(config, self.metrics, behind - idle, self._lookout)
        self.policy = PolicyFile(config.policy, self.metrics) if config.policy else None
        self.reach = Reach(self.api, self.metrics, config.api_check)
        self.connected = Event()
        self.tunnels: list[Tunnel] = []
        self.draining = False
        parts = config, self.metrics, self._lookout, self._serve, self._arrived
        self.connector = Connector(*parts)
        further = (Connector(*parts, number, self.connector) for number in range(1, config.tunnels))
        self.connectors = [self.connector, *further]
        self._probes = Probes(self.connected.is_set, self.metrics, self._status, lambda: "not connected")
        self.health = HealthServer(*config.health_addr, self._probes) if config.health_addr else None
        self._dialling: list[gevent.Greenlet] = []
        self._greenlets: list[gevent.Greenlet] = []
        self._seldom = Seldom(log)
        self._crowded = Seldom(log, most=1, seconds=60.0)
        self._ample = ample(config.max_conns)
        self._since = monotonic()
        self.rates = Rates()

    def start(self) -> None:
        """Bind the health port and begin to dial; ConfigError when the port cannot be had."""
        if self.health is not None:
            self.health.start()
        self._lookout.start()
        self._dialling = [gevent.spawn(each.run) for each in self.connectors]
        self._greenlets = [gevent.spawn(each) for each in (self._measure, self.reach.run)]
        if self._few:
            log.warning(
                "this process may have %d descriptors: the server is told to open %d streams at most",
                descriptors.allowed(),
                self.config.max_conns,
            )
        health = {} if self.health is None else {"health": host_port(*self.health.address)}
        log.info(
            "agent starts", extra=fields(server=str(self.config.server), target=self.api.address, **health)
        )

    def told(self) -> None:
        """It is to end: a dial in progress says nothing more to the server."""
        for connector in self.connectors:
            connector.stop()

    def drain(self) -> None:
        """Shut down gracefully: tell the server, serve until it has another agent, finish what runs, stop.

        Of `--drain` the last part is for requests in progress: see LAST_PART.
        """
        if self.draining:
            return
        self.draining = True
        self.told()
        gevent.killall(self._dialling, block=False)
        seconds = self.config.drain
        log.info("draining", extra=fields(seconds=seconds))
        lingering = [tunnel for tunnel in self.tunnels if tunnel.lingers and not tunnel.mux.going_away]
        for tunnel in self.tunnels:
            tunnel.mux.goaway(DRAINING, "the agent is draining")
        deadline = monotonic() + seconds
        lingered = deadline - seconds * LAST_PART
        while monotonic() < lingered and any(tunnel.needed for tunnel in lingering):
            gevent.sleep(0.05)
        for tunnel in lingering:
            tunnel.mux.goaway(ENDING, "the agent ends")
        # What the server sent before it heard of the drain still arrives, and is served.
        settled = min(deadline, monotonic() + SETTLE + max((t.rtt for t in self.tunnels), default=0.0))
        while (now := monotonic()) < deadline and (now < settled or self._busy):
            gevent.sleep(0.05)
        ending = list(self.tunnels)
        self.stop()
        # The end of a process that leaves bytes unread is a reset, which overtakes its last words.
        gevent.joinall([tunnel.leaving for tunnel in ending if tunnel.leaving is not None])

    def stop(self) -> None:
        """End at once."""
        self.draining = True
        gevent.killall(self._dialling + self._greenlets, block=False)
        self._lookout.stop()
        self._seldom.close()
        self._crowded.close()
        if self.policy is not None:
            self.policy.close()
        for tunnel in list(self.tunnels):
            tunnel.end("the agent ends")
        for upstream in list(self.api.flushing):
            upstream.close()
        self.api.idle.close()
        if self.health is not None:
            self.health.stop()
        if self.tracing is not None:
            self.tracing.close()
        self.access.close()

    # ── the tunnel ─────────────────────────────────────────────────────────────────────────────

    def _serve(self, tunnel: Tunnel) -> None:
        """Serve one tunnel until it ends."""
        self.tunnels.append(tunnel)
        tunnel.mux.accept = lambda stream, target: self._accept(tunnel, stream, target)
        try:
            tunnel.run()
        finally:
            self.tunnels.remove(tunnel)
            if not self.tunnels:
                self.connected.clear()
                self.metrics.connected = 0

    def _arrived(self, tunnel: Tunnel, theirs: Hello) -> None:
        """The server has said who it is."""
        if theirs.target and theirs.target != self.api.address:
            log.warning(
                "the server's clusters file names target %s for this cluster, but this agent serves %s only: "
                "its requests will be refused",
                theirs.target,
                self.api.address,
            )
        self.connected.set()
        self.metrics.connected = 1
        log.info("connected", extra=fields(server=str(self.config.server), version=tunnel.version))

    def _accept(self, tunnel: Tunnel, stream: Stream, target: str) -> None:
        if target and target != self.api.address:
            # A hostile server could have thousands of these lines a second.
            self._seldom.say(
                logging.WARNING,
                "another target",
                "a stream to %s was refused: only %s is served",
                target,
                self.api.address,
            )
            tunnel.mux.reset(stream, NOT_ALLOWED)
            return
        streams = self._streams
        if streams > self.config.max_conns:
            # Each tunnel alone may have as many, and together they are the connections of one process.
            tunnel.mux.reset(stream, STREAM_LIMIT)
            return
        if streams > self._ample:
            self._crowded.say(
                logging.WARNING,
                "streams",
                "nearly all streams are taken (--max-conns): watches are refused, at the limit everything",
                extra=fields(streams=streams, limit=self.config.max_conns),
            )
        theirs = tunnel.mux.theirs
        cluster = theirs.cluster if theirs is not None else ""
        named = theirs is not None and theirs.callers
        channel = Channel(tunnel, stream)
        parts = self.metrics, self._record, self.policy, named, self.tracing
        stream.sink = Forwarder(self.api, channel, cluster, *parts)

    def _record(self, request: Request) -> None:
        """Count a request that is over, and write its access line."""
        self.metrics.carry(request)
        self.metrics.stalls += request.stalls
        self._report(request)

    def _count_running(self) -> None:
        """Count what is in progress, since a watch may run for hours; the names here must not outlive it."""
        for forwarder in self._forwarders:
            if forwarder.request is not None:
                self.metrics.carry(forwarder.request)

    @property
    def _forwarders(self) -> Iterator[Forwarder]:
        for tunnel in self.tunnels:
            for stream in tunnel.mux.streams.values():
                if isinstance(stream.sink, Forwarder):
                    yield stream.sink

    @property
    def _streams(self) -> int:
        return sum(len(tunnel.mux.streams) for tunnel in self.tunnels)

    @property
    def _busy(self) -> bool:
        """Whether a request is in progress, or bytes are still to leave, on either side."""
        return (
            bool(self.api.flushing)
            or any(tunnel.unsent for tunnel in self.tunnels)
            or any(forwarder.busy for forwarder in self._forwarders)
        )

    def _measure(self) -> None:
        """Keep the gauges no older than a second, and look at the files as often."""
        metrics = self.metrics
        while True:
            gevent.sleep(1.0)
            metrics.active = self._streams
            metrics.tunnels = len(self.tunnels)
            metrics.rtt = self.tunnels[-1].rtt if self.tunnels else 0.0
            self._count_running()
            self.rates.measure({API: (metrics.bytes_in, metrics.bytes_out)}, monotonic())
            metrics.window_exhausted += sum(tunnel.take_exhausted() for tunnel in self.tunnels)
            self._look_at_files()

    def _look_at_files(self) -> None:
        """Let those that cannot be used be reported now, and not at a dial months from now."""
        for tls in filter(None, (self.connector.tls, self.api.tls)):
            tls.context()
        if self.policy is not None:
            self.policy.refresh()
        for token in (self.connector.token.current, self.api.credential):
            try:
                token()
            except CredentialError:
                # The next dial or request says what that means.
                pass

    def _status(self) -> dict[str, object]:
        return {
            "mode": "agent",
            "version": argotun.__version__,
            "uptimeSeconds": round(monotonic() - self._since, 1),
            "server": str(self.config.server),
            "target": self.api.address,
            "connected": self.connected.is_set(),
            "draining": self.draining,
            **self._dials(),
            **self.reach.status(),
            **self._traffic(),
            "policy": self._policy_status(),
            "certificates": self.metrics.certificates(time()),
            "tunnels": [
                {
                    "version": tunnel.version,
                    "replica": self.connector.spread.replica(tunnel),
                    "streams": len(tunnel.mux.streams),
                    "rttSeconds": round(tunnel.rtt, 6),
                    "connectedSeconds": round(monotonic() - tunnel.since, 1),
                }
                for tunnel in self.tunnels
            ],
        }

    def _dials(self) -> dict[str, object]:
        """Why there are not all tunnels: of the first connector that has a problem, if one has."""
        each = next((each for each in self.connectors if each.problem), self.connector)
        return {
            "lastError": each.problem,
            "attempts": each.attempts,
            "nextTrySeconds": each.next_try,
            "tunnelsWanted": each.spread.wanted,
            "replicas": each.spread.replicas,
            "settledForFewer": any(each.settled for each in self.connectors),
        }

    def _traffic(self) -> dict[str, object]:
        to, back = self.rates.of(API)
        return {"toClusterBytesPerSecond": round(to), "fromClusterBytesPerSecond": round(back)}

    def _policy_status(self) -> dict[str, object] | None:
        if self.policy is None:
            return None
        return {
            "file": self.policy.path,
            "rules": self.policy.rules,
            "problem": self.policy.problem,
            "refusals": self.metrics.refusals,
        }


def run(config: AgentConfig) -> int:
    """Serve until SIGTERM or SIGINT, then drain; the process's exit code."""
    descriptors.tell(log)
    return process.run(Agent(config), log)
