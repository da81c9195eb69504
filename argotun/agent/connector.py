"""Keeps an agent connected: dial, serve, and dial again, for as long as the process lives.

Theory of operation
-------------------

An agent has a connector for each tunnel that it may have, see spread.py. The greenlet of its `run` is at one
of four places, and only the process' end takes it from there (`stop`):

| place      | waits for                                                          | then       |
|------------|--------------------------------------------------------------------|------------|
| not wanted | `Spread.wait`: that the agent is to have one tunnel more           | resting    |
| resting    | its time to be over, or `Spread.pause` to say that it need not be  | dialling   |
| dialling   | the steps of one way to the server, while no other connector dials | connected, |
|            |                                                                    | or resting |
| connected  | `_leave`: the tunnel has ended, or its server sends it away        | resting    |

A tunnel has a greenlet of its own (`_keep`): it may serve on while its connector dials the next one.

One way to the server is a list of named steps, each of which takes what the one before it gave:

    resolve   the name of the server, or of the proxy, to addresses
    connect   to the first address that answers
    proxy     through the proxy by CONNECT, where there is one
    tls       a TLS handshake with the server, on wss://
    upgrade   to a WebSocket, with the token
    hello     the WebSocket becomes a tunnel

Between two steps the loop looks whether the process has been told to end: a HELLO takes the cluster away from
the agent that serves it, and one that is about to end must not say it.

A tunnel that ends is dialled again after a backoff. A server that drains says so, and is dialled again at
once, while the old tunnel serves until its streams end, or too many newer ones have come. It hears of the
first newer one: until then it serves new requests too. A server that says that another agent has taken over
is dialled after the longest wait: dialling at once would replace that agent in turn, and so for ever.

A connector beside which another has a tunnel takes its time, and asks for a replica where the agent is not:
one where it is answers 409.
"""

import logging
import os
from collections.abc import Callable, Generator
from contextlib import closing
from time import monotonic

import gevent
from gevent.event import Event

import argotun
from argotun.address import host_port
from argotun.agent.backoff import Backoff, Search
from argotun.agent.credentials import ServerToken
from argotun.agent.spread import Spread, Woken
from argotun.config import AgentConfig
from argotun.errors import ArgotunError, ConnectionLost, DialError, HandshakeError, NameLost
from argotun.observe.logs import fields
from argotun.observe.metrics import AgentMetrics
from argotun.transport.connect import connect
from argotun.transport.dial import Destination
from argotun.transport.lookout import Lookout
from argotun.transport.proxy import tunnel as pass_through
from argotun.transport.tls import ClientTls, handshake_client
from argotun.tunnel.link import link
from argotun.tunnel.tunnel import Tunnel
from argotun.turns import NEXT_TURN
from argotun.wire.frames import SUBPROTOCOL
from argotun.wire.hello import CONNECTED_TO, Hello
from argotun.wire.reasons import REPLACED

log = logging.getLogger("argotun.agent")

STEPS = ("resolve", "connect", "proxy", "tls", "upgrade", "hello")
"""The way to the server; `approach` names each as it is done."""

TUNNELS = 4
"""Tunnels at once, of which the oldest gives way. A roll-out of the server may send an agent away twice while
its first one still serves; a server that goes on so would have it keep any number, each with its buffers."""


REMIND = 60.0
"""Seconds after which a reason is told again: an agent that is silent for an hour looks hung."""


class Connector:
    """Keeps one tunnel up; of several the `number`th, which stands beside the `first`.

    `serve(tunnel)` is called in a greenlet of its own for each tunnel and returns when that has ended;
    `arrived(tunnel, hello)` when its server has said who it is. `problem` says why there is no tunnel, or why
    the last one ended, "" while all is well; `attempts` counts the dials since there was one.
    """

    token: ServerToken
    tls: ClientTls | None
    spread: Spread
    _first: Destination
    _instance: str

    def __init__(
        self,
        config: AgentConfig,
        metrics: AgentMetrics,
        lookout: Lookout,
        serve: Callable[[Tunnel], None],
        arrived: Callable[[Tunnel, Hello], None],
        number: int = 0,
        first: "Connector | None" = None,
    ) -> None:
        self.problem = ""
        self.attempts = 0
        self._next = self._told_at = 0.0
        self.number = number
        if first is not None:
            self.token, self.tls, self._first = first.token, first.tls, first._first
            self._instance, self.spread = first._instance, first.spread
        else:
            self._prepare(config, metrics)
        self._config = config
        self._metrics = metrics
        self._lookout = lookout
        self._serve = serve
        self._arrived = arrived
        self._backoff = Backoff(config.max_retry)
        self._search = Search()
        self._serving: list[Tunnel] = []
        self._leave = Event()
        self._stopped = self._doubled = self._told = False

    def _prepare(self, config: AgentConfig, metrics: AgentMetrics) -> None:
        """What all connectors of an agent share."""
        self.token = ServerToken(
            config.token,
            config.token_file or config.server_token_path,
            lambda: metrics.reload_errors("token"),
            "--token-file" if config.token_file else "--server-token-path",
        )
        self.tls = None
        if config.server.tls:
            self.tls = ClientTls(config.server_ca_cert, config.client_cert, config.client_key)
            metrics.watch_certificates(self.tls)
        first = config.proxy or config.server
        self._first = Destination(first.host, first.port, config.dial_timeout)
        self._instance = os.urandom(8).hex()
        self.spread = Spread(config.tunnels)

    @property
    def next_try(self) -> float:
        """Seconds until the next dial, 0 while there is a tunnel or one is dialled."""
        return round(max(0.0, self._next - monotonic()), 1)

    def run(self) -> None:
        """Dial, wait until the tunnel ends or its server drains, and dial again."""
        while True:
            looks = False
            if not self.spread.may_dial(self.number):
                looks = self.spread.wait(self.number)
                self._rest(self._delay())
            try:
                with self.spread.dialling:
                    if not (looks or self.spread.may_dial(self.number)):
                        continue
                    self._metrics.reconnects += 1
                    tunnel = self.dial()
            except (ArgotunError, OSError) as error:
                if isinstance(error, HandshakeError) and error.status == 409:
                    self._look_on()
                else:
                    self._pause(_problem(error), self._delay(isinstance(error, NameLost)))
                continue
            except Exception as error:
                # An agent that no longer dials would be alive and of no use for ever.
                log.exception("a fault in argotun")
                self._pause(_problem(error), self._delay())
                continue
            self._search.again()
            self._leave.wait()
            self._backoff.lived(monotonic() - tunnel.since)
            if self._doubled:
                self._look_on()
            elif tunnel.ended.is_set():
                self._pause(f"the tunnel ended: {tunnel.reason}", self._delay())
            else:
                # A server that says so again and again is not dialled again and again.
                gevent.sleep(self._backoff.handover())

    def dial(self) -> Tunnel:
        """A new tunnel, which is being served.

        Raises what any of the steps does, and GreenletExit between two of them once `stop` was called.
        """
        self._go_on()
        tunnel: object = None
        # Closed at once, and with it the socket that an unfinished step left.
        with closing(self.approach()) as steps:
            for _, tunnel in steps:
                if not isinstance(tunnel, Tunnel):
                    self._go_on()
        assert isinstance(tunnel, Tunnel)
        return tunnel

    def stop(self) -> None:
        """Dial no more. What a dial in progress has not said yet it does not say; a tunnel stays."""
        self._stopped = True

    def _go_on(self) -> None:
        # What has come in the meantime, a signal too, is looked at first.
        gevent.sleep(NEXT_TURN)
        if self._stopped:
            raise gevent.GreenletExit

    def approach(self) -> Generator[tuple[str, object], None, None]:
        """Walk STEPS: gives the name of each step that is done and what it gave, a tunnel at last.

        Raises NameLost, DialError, HandshakeError, ConnectionLost or CredentialError, in words for a person;
        the step that failed is the one behind the last that was named.
        """
        config = self._config
        server, proxy = config.server, config.proxy
        deadline = monotonic() + config.dial_timeout
        try:
            addresses = self._first.resolve(deadline)
            yield "resolve", addresses
            sock = self._first.connect(addresses, deadline)
        except DialError as error:
            if proxy is None:
                raise
            raise type(error)(f"the proxy cannot be reached: {error}") from error
        try:
            yield "connect", sock
            if proxy is not None:
                sock = pass_through(sock, proxy, server.host, server.port, deadline)
            yield "proxy", sock
            if self.tls is not None:
                sock = handshake_client(sock, self.tls.context(), server.host, config.dial_timeout)
            yield "tls", sock
            headers = [("Authorization", f"Bearer {self.token.current()}")]
            if there := self.spread.connected:
                headers.append((CONNECTED_TO, there))
            socket = connect(sock, server.name, server.target, headers, (SUBPROTOCOL,), config.dial_timeout)
            yield "upgrade", socket
        except BaseException:
            sock.close()
            raise
        leave = self._leave = Event()
        arrived = Event()

        def hello(tunnel: Tunnel, theirs: Hello) -> None:
            self.problem = ""
            self.attempts = 0
            self._told = False
            self.spread.came(self.number, tunnel, theirs)
            arrived.set()
            for older in self._serving[:-1]:
                if older.mux.away and older.lingers:
                    # Its server keeps it for as long as there is no other.
                    older.mux.goaway(REPLACED, "the agent has another tunnel")
            for oldest in self._serving[:-TUNNELS]:
                oldest.end("sent away too often")
            self._arrived(tunnel, theirs)

        tunnel = link(
            socket,
            config,
            self._lookout,
            opener=False,
            ours=Hello(
                release=argotun.__version__,
                max_streams=config.max_conns,
                target=host_port(*config.target),
                callers=True,
                lingers=True,
                instance=self._instance,
            ),
            on_hello=hello,
            on_goaway=lambda tunnel, reason, text: self._sent_away(tunnel, reason, text, leave),
        )
        gevent.spawn(self._keep, tunnel, leave)
        gevent.wait((arrived, tunnel.ended), count=1)
        if not arrived.is_set():
            raise ConnectionLost(tunnel.reason)
        yield "hello", tunnel

    def _keep(self, tunnel: Tunnel, leave: Event) -> None:
        self._serving.append(tunnel)
        try:
            self._serve(tunnel)
        finally:
            self._serving.remove(tunnel)
            self.spread.left(self.number, tunnel)
            leave.set()

    def _sent_away(self, tunnel: Tunnel, reason: int, text: str, leave: Event) -> None:
        log.info("the server sends this tunnel away: %s", text)
        if reason != REPLACED:
            self.spread.left(self.number, tunnel)
            if leave.is_set():
                self.spread.news()
            leave.set()
        elif self.spread.doubled(self.number, tunnel):
            self._doubled = True
        else:
            self._backoff.replaced()

    def _delay(self, nameless: bool = False) -> float:
        return self._backoff.delay(bool(self._serving), nameless, self.spread.beside(self.number))

    def _pause(self, problem: str, delay: float) -> None:
        """Wait before the next dial. Each new reason is told, and what stays the reason once a minute."""
        now = monotonic()
        self.attempts += 1
        told = problem != self.problem or now - self._told_at >= REMIND
        if told:
            self._told_at = now
        self.problem = problem
        facts = fields(attempts=self.attempts, retry_seconds=round(delay, 1))
        log.log(logging.WARNING if told else logging.DEBUG, "%s", problem, extra=facts)
        self._rest(delay)

    def _rest(self, seconds: float) -> None:
        """Wait until there is to be a dial."""
        self._next = monotonic() + seconds
        woken = self.spread.pause(self.number, seconds)
        while woken == Woken.NEWS and not self.settled:
            woken = self.spread.pause(self.number, self._next - monotonic())
        if woken == Woken.NEWS:
            self._search.again()
        elif woken == Woken.NEEDED:
            self._backoff.alone()
            self._search.again()
            self._rest(self._backoff.delay())

    def _look_on(self) -> None:
        """The dial led to a replica where the agent is already."""
        self._doubled = False
        delay = self._search.delay()
        if self.settled and not self._told:
            self._told = True
            log.info(
                "every dial leads to a replica where this agent is already: it goes on with fewer tunnels",
                extra=fields(wanted=self.spread.wanted, next_try_seconds=round(delay)),
            )
        self._rest(delay)

    @property
    def settled(self) -> bool:
        """Whether it has found no other replica and looks only now and then."""
        return self._search.settled


def _problem(error: Exception) -> str:
    """Why there is no tunnel, as a sentence; of a dial that led nowhere the words say so themselves."""
    return str(error) if isinstance(error, DialError) else f"cannot connect: {error}"
