"""Every wait has a limit, and what may be silent for hours has none ("Limits and times", operations.md)."""

from collections.abc import Callable

import gevent
import pytest

from tests.rig import Api, Gate, Peer, Rig, answer, send_what_is_taken, until
from tests.server.conftest import impatient, no_fault, nothing_left, pass_time  # noqa: F401  (the same care)
from tests.v2_peers import CONNECT, CONNECTED, DATA, PING, WINDOW, V2Agent

PATIENT = 60.0
"""Seconds that none of these tests takes: a limit that must not be the one that ends something."""

BIG = 24_000_000
ENOUGH = 30.0
"""Seconds for an end that has its limit, on a machine that is busy with something else."""

GET = b"GET /tunnel/c1/%b HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /tunnel/c1/x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
EXEC = (
    b"POST /tunnel/c1/api/v1/namespaces/d/pods/p/exec?command=id HTTP/1.1\r\nHost: a\r\n"
    b"Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n\r\n"
)
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b"7\r\nevent\r\n\r\n"

pytestmark = pytest.mark.usefixtures("impatient")


def deaf(head: bytes = b"") -> Callable[[Peer], None]:
    """An API that reads a request's head, says `head` and then neither reads nor speaks; and what ends it."""
    over = Gate()

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(head)
        over.wait()

    script.over = over  # type: ignore[attr-defined]
    return script


def time_is_up(rig: Rig, pass_time: Callable[[Rig, float], None]) -> None:  # noqa: F811
    """More than PATIENT seconds pass in which nothing moves."""
    pass_time(rig, 0.0)
    pass_time(rig, PATIENT + 1)


def reads_all(peer: Peer) -> None:
    peer.head()
    peer.rest()


# ── the client's upload ────────────────────────────────────────────────────────────────────────────


def test_a_client_that_stops_in_the_middle_of_its_upload_is_a_408() -> None:
    with Rig(Api(reads_all), server={"body_timeout": 0.3}) as rig:
        client = rig.client()
        client.send(POST % 100 + b"half")
        response = client.response()
        assert (response.status, response.header("connection")) == (408, "close")
        assert "did not arrive in time" in response.json()["message"]
        until(lambda: not rig.api.live, "the end of the API's connection")
        rig.settle()


def test_a_client_that_stops_in_an_answered_upload_is_cut_off(
    pass_time: Callable[[Rig, float], None],  # noqa: F811
) -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.send(CHUNKED + EVENT)
        peer.rest()

    with Rig(Api(script), server={"body_timeout": PATIENT}) as rig:
        client = rig.client()
        client.send(POST % 100 + b"half")
        client.until(b"event\r\n")
        time_is_up(rig, pass_time)
        assert client.ended() == "reset"
        rig.settle()


def test_an_upload_in_small_pieces_is_not_cut(pass_time: Callable[[Rig, float], None]) -> None:  # noqa: F811
    arrived: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.head()
        while len(arrived) < 10:
            arrived.append(peer.read(1))
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        peer.rest()

    with Rig(Api(script), server={"body_timeout": PATIENT, "response_timeout": PATIENT}) as rig:
        client = rig.client()
        client.send(POST % 10)
        for number in range(1, 11):
            client.send(b"x")
            until(lambda number=number: len(arrived) == number, "the byte")  # type: ignore[misc]
            pass_time(rig, PATIENT / 6)
        assert client.response().status == 200


# ── the API's answer ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "begun",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        CHUNKED + EVENT,
        CHUNKED + b"40\r\nhalf",
    ],
    ids=["length", "chunked", "in a chunk"],
)
def test_an_api_that_stops_in_the_middle_of_its_answer_is_an_abort(
    pass_time: Callable[[Rig, float], None],  # noqa: F811
    begun: bytes,
) -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.send(begun)
        peer.rest()

    with Rig(Api(script), server={"response_timeout": PATIENT}) as rig:
        client = rig.client()
        client.send(GET % b"api/v1/pods")
        client.head()
        time_is_up(rig, pass_time)
        assert client.ended() == "reset"
        until(lambda: not rig.api.live, "the end of the API's connection")
        rig.settle()


def test_an_answer_in_small_pieces_is_not_cut(pass_time: Callable[[Rig, float], None]) -> None:  # noqa: F811
    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        peer.rest()

    with Rig(Api(script), server={"response_timeout": PATIENT}) as rig:
        client = rig.client()
        client.send(GET % b"api/v1/pods")
        client.head()
        for _ in range(10):
            rig.api.live[0].send(b"x")
            assert client.read(1) == b"x"
            pass_time(rig, PATIENT / 6)


@pytest.mark.parametrize(
    "target",
    [
        b"api/v1/pods?watch=1",
        b"apis/apps/v1/watch/deployments",
        b"api/v1/namespaces/d/pods/p/log?follow=true",
        b"api/v1/namespaces/d/services/s:80/proxy/events",
    ],
)
def test_what_may_be_silent_for_hours_is_not_cut(
    pass_time: Callable[[Rig, float], None],  # noqa: F811
    target: bytes,
) -> None:
    speak = Gate()

    def script(peer: Peer) -> None:
        if target in peer.head():
            peer.send(CHUNKED + EVENT)
            speak.wait()
            peer.send(EVENT + b"0\r\n\r\n")
        peer.rest()

    with Rig(Api(script), server={"response_timeout": PATIENT, "body_timeout": PATIENT}) as rig:
        watcher = rig.client()
        watcher.send(GET % target)
        watcher.until(b"event\r\n")
        assert_times_out(rig, pass_time)
        speak.open()
        watcher.until(b"0\r\n\r\n")


def assert_times_out(rig: Rig, pass_time: Callable[[Rig, float], None]) -> None:  # noqa: F811
    """One more request meanwhile, which its API leaves without an answer."""
    client = rig.client()
    client.send(GET % b"api/v1/pods")
    until(lambda: len(rig.api.live) == 2, "the request")
    time_is_up(rig, pass_time)
    assert client.response().status == 504


def test_a_silent_terminal_is_not_cut(pass_time: Callable[[Rig, float], None]) -> None:  # noqa: F811
    speak = Gate()

    def script(peer: Peer) -> None:
        if b"/exec" in peer.head():
            peer.send(SWITCH)
            speak.wait()
            peer.send(b"done")
        peer.rest()

    limits = {"response_timeout": PATIENT, "body_timeout": PATIENT, "stall_timeout": PATIENT}
    with Rig(Api(script), server=limits) as rig:
        terminal = rig.client()
        terminal.send(EXEC)
        assert terminal.response().status == 101
        assert_times_out(rig, pass_time)
        speak.open()
        assert terminal.read(4) == b"done"


# ── who takes nothing ──────────────────────────────────────────────────────────────────────────────


def floods(peer: Peer) -> None:
    peer.head()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG)
    for _ in range(BIG // 240_000):
        peer.send(b"x" * 240_000)


def test_a_client_that_reads_nothing_is_cut_off() -> None:
    with Rig(Api(floods), server={"stall_timeout": 0.5}) as rig:
        client = rig.client(buffer=4096)
        client.send(GET % b"api/v1/pods")
        until(lambda: rig.api.live, "the request")
        until(lambda: not rig.api.live, "the end of the API's connection", ENOUGH)
        with pytest.raises((ConnectionResetError, EOFError)):
            client.read(BIG)
        rig.settle()


def test_a_client_that_reads_slowly_is_not_cut() -> None:
    with Rig(Api(floods), server={"stall_timeout": 3.0}) as rig:
        client = rig.client(buffer=4096)
        client.send(GET % b"api/v1/pods")
        client.head()
        for _ in range(10):
            gevent.sleep(0.35)
            client.read(240_000)
        assert rig.api.live


def test_an_api_that_reads_nothing_of_an_upload_is_a_504() -> None:
    script = deaf()
    with Rig(Api(script), agent={"stall_timeout": 0.5}) as rig:
        client = rig.client()
        client.send(POST % BIG)
        sending = gevent.spawn(send_what_is_taken, client, b"x" * BIG, 1 << 20)
        response = client.response()
        assert response.status == 504
        assert "took nothing" in response.json()["message"]
        assert response.header("retry-after") is None
        assert client.ended() in ("closed", "reset")
        sending.join(ENOUGH)
        until(lambda: not rig.streams(), "the end of the stream")
        script.over.open()  # type: ignore[attr-defined]
        rig.settle()


@pytest.mark.parametrize("head", [SWITCH, CHUNKED + EVENT], ids=["upgraded", "answering"])
def test_an_api_that_speaks_but_does_not_read_is_cut_off(head: bytes) -> None:
    script = deaf(head)
    with Rig(Api(script), agent={"stall_timeout": 0.5}) as rig:
        client = rig.client()
        client.send(EXEC if head is SWITCH else POST % BIG)
        client.head()
        sending = gevent.spawn(send_what_is_taken, client, b"x" * BIG, 1 << 20)
        assert client.ended() == "reset"
        sending.join(ENOUGH)
        until(lambda: not rig.streams(), "the end of the stream")
        script.over.open()  # type: ignore[attr-defined]
        rig.settle()


def test_an_agent_that_gives_no_credit_for_an_upload_is_a_504() -> None:
    with Rig(mutual=False, agent=None, server={"stall_timeout": 0.5}) as rig:
        agent = V2Agent(rig, window=1000)
        client = rig.client()
        client.send(POST % BIG)
        sending = gevent.spawn(send_what_is_taken, client, b"x" * BIG, 1 << 20)
        agent.send(CONNECTED, agent.expect(CONNECT).stream)
        agent.expect(DATA)
        response = client.response()
        assert response.status == 504
        assert "took nothing" in response.json()["message"]
        sending.join(ENOUGH)


def test_an_agent_that_speaks_but_does_not_read_loses_its_tunnel() -> None:
    with Rig(mutual=False, agent=None, server={"keepalive_timeout": 1.0, "stall_timeout": PATIENT}) as rig:
        agent = V2Agent(rig, window=1 << 20)
        client = rig.client()
        client.send(POST % BIG)
        sending = gevent.spawn(send_what_is_taken, client, b"x" * BIG, 1 << 20)
        stream = agent.expect(CONNECT).stream
        agent.send(CONNECTED, stream)
        agent.send(WINDOW, stream, (7 << 20).to_bytes(4, "big"))

        def speak() -> None:
            while True:
                agent.send(PING, 0, b"here")
                gevent.sleep(0.1)

        speaking = gevent.spawn(send_until_closed, speak)
        until(lambda: not len(rig.server.registry), "the end of the tunnel", ENOUGH)
        assert client.response().status == 502
        sending.join(ENOUGH)
        speaking.join(ENOUGH)


def send_until_closed(speak: Callable[[], None]) -> None:
    try:
        speak()
    except OSError:
        pass


def test_a_client_that_resets_with_both_ways_full_leaves_nothing() -> None:
    def echo(peer: Peer) -> None:
        peer.head()
        peer.send(SWITCH)
        while True:
            peer._more()
            data, peer.buffer = peer.buffer, b""
            peer.send(data)

    with Rig(Api(echo)) as rig:
        client = rig.client(buffer=4096)
        client.send(EXEC)
        client.head()
        sending = gevent.spawn(send_what_is_taken, client, b"x" * BIG, 1 << 20)
        (connection,) = rig.server.clients.connections
        request, moved = connection.exchange.request, -1
        while moved != request.bytes_in + request.bytes_out or not all(each.waiter for each in rig.streams()):
            moved = request.bytes_in + request.bytes_out
            gevent.sleep(0.3)
        client.abort()
        sending.join(ENOUGH)
        until(lambda: not rig.server.clients.connections, "the end of the client's connection")
        rig.settle()


def test_a_kept_connection_serves_on_after_its_neighbour_was_given_up(
    pass_time: Callable[[Rig, float], None],  # noqa: F811
) -> None:
    with Rig(Api(answer()), server={"response_timeout": PATIENT, "body_timeout": PATIENT}) as rig:
        kept, stuck = rig.client(), rig.client()
        assert rig.get(client=kept).status == 200
        stuck.send(POST % 100)
        assert stuck.response().status == 200
        pass_time(rig, PATIENT + 1)
        assert stuck.ended() == "closed"
        assert rig.get(client=kept).status == 200
        assert rig.api.connections == 2
