"""An exchange by itself: a real multiplexer on either side, and in place of sockets what was written."""

from itertools import product
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest

from argotun.observe.request import Request
from argotun.server.exchange import Exchange
from argotun.wire.frames import V1, V2, Profile
from argotun.wire.head import parse_request
from argotun.wire.hello import Hello
from argotun.wire.mux import Multiplexer
from argotun.wire.outcomes import Action, Cause, Progress
from argotun.wire.streams import Stream
from tests.wire.mux_peers import take_in

GET = b"GET /tunnel/c1/x HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Agent:
    """The other side of a tunnel: keeps what each stream brought, and says what a test wants."""

    def __init__(self, profile: Profile = V2) -> None:
        self.mux = Multiplexer(profile, opener=True, ours=Hello(), budget=64 << 20)
        self.theirs = Multiplexer(profile, opener=False, ours=Hello(), budget=64 << 20)
        self.theirs.accept = self._accept
        self.streams: list[Stream] = []
        self.got: list[bytes] = []
        self.ends: list[tuple[str, Any]] = []
        self.tunnel = SimpleNamespace(mux=self.mux, version=profile.version, ended=False)
        self.session = SimpleNamespace(
            cluster="c1",
            tunnel=self.tunnel,
            target="",
            usable=True,
            callers=False,
            single=profile.version == 1,
            via="",
            rest=lambda: None,
        )
        self.turn()

    def _accept(self, stream: Stream, target: str) -> None:
        self.streams.append(stream)
        stream.sink = self

    def turn(self) -> None:
        """Carry what both sides have to say."""
        for source, target in ((self.mux, self.theirs), (self.theirs, self.mux)) * 3:
            for parts in source.collect():
                take_in(target, b"".join(parts))

    def says(self, data: bytes) -> None:
        """Bytes of an answer on the newest stream, after CONNECTED."""
        self.theirs.connected(self.streams[-1])
        self.theirs.send(self.streams[-1], data)
        self.turn()

    def on_connected(self) -> None: ...

    def on_data(self, payload: bytes) -> None:
        self.got.append(payload)

    def on_end(self) -> None:
        self.ends.append(("END", None))

    def on_over(self, reason: int, text: str) -> None:
        self.ends.append(("over", reason))

    def on_lost(self, text: str) -> None: ...


class Client:
    """A client's connection and its socket: what was written, and what was asked of them."""

    draining = False
    request_done = True
    channel = None
    stalls = 0

    def __init__(self) -> None:
        self.written = b""
        self.did: list[str] = []
        self.records: list[Request] = []

    def relay(self, data: bytes, credit: int) -> None:
        self.written += data

    def write(self, data: bytes) -> bool:
        self.written += data
        return True

    def record(self, request: Request) -> None:
        self.records.append(request)

    def forgive(self) -> int:
        return 0

    def attached(self, channel: object) -> None: ...

    def again(self, request: Request, but: Any, action: Action) -> bool:
        return False

    def finish(self, reading: bool = False) -> None:
        self.did.append("half-close" if reading else "finish")

    def __getattr__(self, name: str) -> Any:
        if name not in ("proceed", "switched", "abort"):
            raise AttributeError(name)
        return lambda: self.did.append(name)


class Site:
    """A client, its exchange, and one agent."""

    def __init__(self, profile: Profile = V2) -> None:
        self.client = Client()
        self.exchange = Exchange(self.client, self.client)  # type: ignore[arg-type]
        self.agent = Agent(profile)

    def ask(self, head: bytes = GET, send: bool = True, cluster: str = "c1") -> Request:
        parsed = parse_request(head)
        request = Request(
            monotonic(), cluster=cluster, method=parsed.method, target=b"/x", bytes_in=len(head)
        )
        self.exchange.begin(request, parsed)
        if send:
            self.exchange.send(self.agent.session)  # type: ignore[arg-type]
            self.agent.turn()
        return request


@pytest.fixture(params=[V2, V1], ids=["version 2", "version 1"])
def site(request: pytest.FixtureRequest) -> Site:
    return Site(request.param)


def test_an_answer_is_relayed_and_recorded_once(site: Site) -> None:
    request = site.ask()
    site.agent.says(OK)
    assert site.client.written == OK
    assert site.client.records == [request]
    assert (request.status, request.bytes_in, request.bytes_out) == (200, len(GET), len(OK))
    assert request.began <= request.ended
    assert site.client.did == ["proceed"]


def test_two_requests_share_a_stream_in_version_2_only(site: Site) -> None:
    for _ in range(2):
        site.ask()
        site.agent.says(OK)
    assert len(site.agent.streams) == (1 if site.agent.tunnel.version == 2 else 2)
    assert site.client.written == OK * 2


@pytest.mark.parametrize("cause", list(Cause))
def test_nothing_answers_a_request_that_is_over(site: Site, cause: Cause) -> None:
    site.ask()
    site.agent.says(OK)
    assert site.exchange.end(cause, "late") == Action.NOTHING
    assert (site.client.written, len(site.client.records)) == (OK, 1)


@pytest.mark.parametrize("sent", [True, False], ids=["sent", "waiting"])
def test_whatever_ends_a_request_it_is_recorded_once(sent: bool) -> None:
    for causes in product(Cause, Cause):
        site = Site()
        site.ask(send=sent)
        actions = [site.exchange.end(cause, "over", 400) for cause in causes]
        ended = [action for action in actions if action != Action.NOTHING]
        assert len(ended) <= 1, causes
        assert len(site.client.records) == len(ended), causes
        assert site.client.written.count(b"HTTP/1.1 ") <= 1, causes


def test_the_stream_of_a_session_that_drains_is_given_up_before_anybody_waits(site: Site) -> None:
    site.ask()
    site.agent.says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    site.agent.session.usable = False
    site.ask(send=False)
    assert site.exchange.channel is None
    assert site.exchange.answer.progress == Progress.WAITING
    site.agent.turn()
    # What the old tunnel still does is not this request's.
    site.agent.mux.lost("drained")
    assert site.exchange.end(Cause.NO_AGENT, "no agent") == Action.ANSWER
    assert site.client.written.count(b"HTTP/1.1 ") == 2
    assert b"503" in site.client.written


def test_the_stream_of_another_cluster_is_given_up_before_anybody_waits(site: Site) -> None:
    site.ask()
    site.agent.says(OK)
    site.ask(send=False, cluster="c2")
    assert site.exchange.channel is None


def test_a_request_that_ended_while_an_agent_was_waited_for_is_not_sent(site: Site) -> None:
    site.ask(send=False)
    site.exchange.end(Cause.CLIENT_GONE)
    site.exchange.send(site.agent.session)  # type: ignore[arg-type]
    site.agent.turn()
    assert not site.agent.streams
    assert site.client.records[0].status == 499


def test_a_refusal_keeps_the_stream_of_the_request_before(site: Site) -> None:
    site.ask()
    site.agent.says(OK)
    before = site.exchange.channel
    site.ask(send=False)
    assert site.exchange.end(Cause.RATE_LIMIT, "too many") == Action.ANSWER
    assert site.exchange.channel is before


def test_a_part_of_an_answer_is_cut_by_an_abort(site: Site) -> None:
    request = site.ask()
    site.agent.says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart")
    site.agent.mux.lost("gone")
    assert "abort" in site.client.did
    assert (request.status, request.error) == (200, "the tunnel was lost: gone")


@pytest.mark.parametrize(
    ("draining", "done", "extra", "last"),
    [
        (False, True, b"", False),
        (True, True, b"", True),
        (False, False, b"", True),
        (False, True, b"Connection: close\r\n", True),
        (False, True, b"Connection: upgrade\r\nUpgrade: websocket\r\n", True),
    ],
    ids=["kept", "draining", "unread request", "asked to close", "upgrade"],
)
@pytest.mark.parametrize("own", ["the API's", "a refusal", "a probe"])
def test_one_rule_says_which_answer_ends_the_connection(
    draining: bool, done: bool, extra: bytes, last: bool, own: str
) -> None:
    site = Site()
    site.client.draining, site.client.request_done = draining, done
    site.ask(GET[:-2] + extra + b"\r\n", send=own == "the API's")
    if own == "the API's":
        site.agent.says(OK)
    elif own == "a refusal":
        site.exchange.end(Cause.NO_AGENT, "no agent")
    else:
        site.exchange.respond(200, b"text/plain", b"ok")
    assert (b"Connection: close\r\n" in site.client.written) is last
    assert ("finish" in site.client.did) is last


def test_both_halves_of_an_upgrade_end_by_themselves() -> None:
    site = Site()
    site.ask(GET[:-2] + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    site.agent.says(b"HTTP/1.1 101 \r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello")
    assert site.client.written.endswith(b"\r\n\r\nhello")
    assert site.exchange.end(Cause.CLIENT_ENDED) == Action.HALF
    site.agent.turn()
    assert site.agent.ends == [("END", None)]
    site.agent.says(b"more")
    assert site.client.written.endswith(b"more")
    assert not site.client.records
    site.agent.theirs.end(site.agent.streams[-1])
    site.agent.turn()
    assert len(site.client.records) == 1


def test_without_a_half_close_the_clients_end_is_the_end() -> None:
    site = Site(V1)
    site.ask(GET[:-2] + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    site.agent.says(b"HTTP/1.1 101 \r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello")
    assert site.exchange.end(Cause.CLIENT_ENDED) == Action.COMPLETE
    site.agent.says(b"late")
    assert not site.client.written.endswith(b"late")


def test_an_exchange_that_was_left_keeps_nothing_of_its_connection(site: Site) -> None:
    site.ask()
    site.exchange.close()
    assert site.client.records[0].status == 499
    assert not hasattr(site.exchange, "_connection")
    site.agent.says(OK)
    assert site.client.written == b""
