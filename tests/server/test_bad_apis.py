"""APIs that answer garbage, too much, too little, too late or not at all."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from gevent import socket

from tests.rig import Api, Authority, Gate, Peer, Rig, Script, answer, until
from tests.wire.http_corpus import Case, load

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
HALF_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nhalf"


@pytest.fixture(scope="module")
def shared() -> Iterator[Rig]:
    """One rig; each test brings its own script and its own client."""
    with Rig() as rig:
        yield rig


@pytest.fixture
def rig(shared: Rig) -> Iterator[Rig]:
    shared.api.connections = 0
    yield shared
    shared.settle()


def says(data: bytes, then: str = "rest") -> Script:
    """A script that reads one head, says `data` and then stays, or ends in the given way."""

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(data)
        getattr(peer, then)()

    return script


@contextmanager
def silent_port() -> Iterator[int]:
    """A port where connections are accepted by the kernel and by nobody else."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def forgotten(rig: Rig) -> None:
    """Wait until the API has no connection any more, and the agent knows."""
    until(lambda: not rig.api.live, "the end of the API's connections")
    (tunnel,) = rig.agent.tunnels
    until(
        lambda: not any(getattr(stream.sink, "_upstream", None) for stream in tunnel.mux.streams.values()),
        "the agent's news of it",
    )


def bad_gateway(rig: Rig, words: str = "argotun: ") -> None:
    response = rig.get()
    assert response.status == 502
    assert response.header("retry-after") is None
    assert words in response.json()["message"]


# ── before an answer ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("case", load("response/invalid"), ids=str)
def test_an_invalid_head_is_a_502(rig: Rig, case: Case) -> None:
    rig.api.script = says(case.data, "finish")
    method = case.expect["to"]
    client = rig.client()
    client.send(b"%b /tunnel/c1/x HTTP/1.1\r\nHost: a\r\n\r\n" % method.encode())
    response = client.response(method)
    assert response.status == 502
    assert response.header("retry-after") is None
    rig.api.script = answer()
    assert rig.get(client=client).status == 200


@pytest.mark.parametrize("then", ["finish", "close", "abort"])
@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200 OK\r\nContent-Le"], ids=["nothing", "half a head"])
def test_an_api_that_ends_before_its_head_is_complete_is_a_502(rig: Rig, data: bytes, then: str) -> None:
    rig.api.script = says(data, then)
    bad_gateway(rig)
    assert rig.api.connections == 1


def test_a_head_without_an_end_is_a_502_once_it_is_too_long(rig: Rig) -> None:
    rig.api.script = says(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 12_000)
    bad_gateway(rig)


def test_a_head_that_comes_byte_by_byte_is_not_read_again_each_time(rig: Rig) -> None:
    head = b"HTTP/1.1 200 OK\r\nX: %b\r\nContent-Length: 2\r\n\r\n" % (b"x" * 2000)

    def script(peer: Peer) -> None:
        peer.head()
        for at in range(len(head)):
            peer.send(head[at : at + 1])
        peer.send(b"ok")
        peer.rest()

    rig.api.script = script
    assert rig.get().body == b"ok"


def test_a_silent_api_is_a_504_after_the_response_timeout(pass_time: Callable[[Rig, float], None]) -> None:
    with Rig(Api(lambda peer: peer.rest() and None), server={"response_timeout": 60.0}) as rig:
        client = rig.client()
        client.send(b"GET /tunnel/c1/x HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: rig.api.live, "the request")
        pass_time(rig, 0.0)
        pass_time(rig, 61.0)
        response = client.response()
        assert response.status == 504
        assert response.header("retry-after") is None
        until(lambda: not rig.api.live, "the end of the connection to the API")
        rig.api.script = answer()
        assert rig.get(client=client).status == 200


def test_a_silent_watch_is_not_timed_out(impatient: None) -> None:
    speak = Gate()

    def script(peer: Peer) -> None:
        head = peer.head()
        if b"watch=1" in head:
            speak.wait()
            peer.send(OK)
        peer.rest()

    with Rig(Api(script), server={"response_timeout": 0.15}) as rig:
        watcher = rig.client()
        watcher.send(b"GET /tunnel/c1/api/v1/pods?watch=1 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert rig.get().status == 504
        speak.open()
        assert watcher.response().status == 200


def test_an_upload_is_not_timed_out_while_it_goes_on(pass_time: Callable[[Rig, float], None]) -> None:
    arrived: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.head()
        while len(arrived) < 20:
            arrived.append(peer.read(1))
        peer.send(OK)
        peer.rest()

    with Rig(Api(script), server={"response_timeout": 60.0}) as rig:
        client = rig.client()
        client.send(b"POST /tunnel/c1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n")
        for number in range(1, 21):
            client.send(b"x")
            until(lambda number=number: len(arrived) == number, "the byte")  # type: ignore[misc]
            pass_time(rig, 10.0)
        assert client.response().status == 200


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "307 Temporary Redirect"])
def test_a_redirect_is_a_502_and_not_followed(rig: Rig, status: str) -> None:
    followed = Api()
    followed.start(rig.authority)
    location = b"Location: https://127.0.0.1:%d/elsewhere\r\n" % followed.port
    rig.api.script = answer(status, b"", location)
    bad_gateway(rig, "redirect")
    assert followed.connections == 0
    followed.close()


def test_a_redirect_without_a_location_is_passed_on(rig: Rig) -> None:
    rig.api.script = answer("304 Not Modified", b"")
    assert rig.get().status == 304


def test_a_switch_of_protocols_that_nobody_asked_for_is_a_502(rig: Rig) -> None:
    rig.api.script = says(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    bad_gateway(rig)


def test_five_interim_answers_are_passed_on(rig: Rig) -> None:
    rig.api.script = says(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 5 + OK)
    response = rig.get()
    assert (response.status, len(response.interim)) == (200, 5)


def test_a_flood_of_interim_answers_is_a_502_and_ends_nothing_else(rig: Rig) -> None:
    rig.api.script = says(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20_000 + OK)
    session = rig.session
    response = rig.get()
    assert response.status == 502
    assert len(response.interim) <= 5
    assert rig.session is session


def test_an_api_that_does_not_shake_hands_is_a_503_with_retry_after() -> None:
    with silent_port() as port, Rig(agent={"target": ("127.0.0.1", port), "dial_timeout": 0.2}) as rig:
        client = rig.client()
        for _ in range(2):
            response = rig.get(client=client)
            assert (response.status, response.header("retry-after")) == (503, "1")
            assert "argotun: the agent cannot reach its API" in response.json()["message"]
        until(lambda: not rig.streams(), "the end of the streams")


def test_a_client_that_leaves_while_the_agent_dials_ends_the_dial() -> None:
    with silent_port() as port, Rig(agent={"target": ("127.0.0.1", port), "dial_timeout": 60.0}) as rig:
        client = rig.client()
        client.send(b"GET /tunnel/c1/x HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: len(rig.streams()) == 2, "the stream")
        client.close()
        rig.settle()


def test_a_client_that_leaves_just_as_the_dial_is_done_leaves_no_connection_to_the_api(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = rig.agent.api
    dial = api.dial

    def dial_and_lose() -> Any:
        sock = dial()
        (stream,) = rig.agent.tunnels[0].mux.streams.values()
        stream.sink.on_over(0, "")
        return sock

    monkeypatch.setattr(api, "dial", dial_and_lose)
    client = rig.client()
    client.send(b"GET /tunnel/c1/x HTTP/1.1\r\nHost: a\r\n\r\n")
    until(lambda: rig.api.connections, "the dial")
    until(lambda: not rig.api.live, "the end of the connection to the API")


def test_an_api_with_a_certificate_from_elsewhere_is_a_503_and_gets_no_request(rig: Rig) -> None:
    heads: list[bytes] = []

    def script(peer: Peer) -> None:
        heads.append(peer.head())

    other = Api(script)
    with TemporaryDirectory() as folder:
        other.start(Authority(Path(folder)))
        with Rig(agent={"target": ("127.0.0.1", other.port)}) as strange:
            response = strange.get()
            assert (response.status, response.header("retry-after")) == (503, "1")
            assert "certificate" in response.json()["message"]
        other.close()
    assert heads == []


# ── within an answer ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("then", ["finish", "close", "abort"])
@pytest.mark.parametrize(
    "data", [HALF, HALF_CHUNKED, HALF_CHUNKED + b"0\r\n"], ids=["length", "chunks", "trailers"]
)
def test_an_answer_that_ends_early_is_aborted_and_never_completed(rig: Rig, data: bytes, then: str) -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.send(data)
        go.wait()
        getattr(peer, then)()

    go = Gate()
    rig.api.script = script
    client = rig.client()
    client.send(b"GET /tunnel/c1/x HTTP/1.1\r\nHost: a\r\n\r\n")
    client.until(b"half")
    go.open()
    assert client.ended() == "reset"
    assert b"0\r\n\r\n" not in client.buffer


@pytest.mark.parametrize("bad", [b"zz\r\n", b"5\nabcde", b"4\r\nhalfX\r\n", b"0\r\nbad trailer\r\n\r\n"])
def test_a_bad_chunk_aborts_the_answer(rig: Rig, bad: bytes) -> None:
    go = Gate()

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(HALF_CHUNKED)
        go.wait()
        peer.send(bad)
        peer.rest()

    rig.api.script = script
    client = rig.client()
    client.send(b"GET /tunnel/c1/x HTTP/1.1\r\nHost: a\r\n\r\n")
    client.until(b"half")
    go.open()
    assert client.ended() == "reset"


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_body_until_the_end_costs_the_client_its_connection(rig: Rig, version: bytes) -> None:
    rig.api.script = says(b"HTTP/%b 200 OK\r\n\r\n" % version + b"x" * 300_000, "finish")
    client = rig.client()
    response = rig.get(client=client)
    assert response.header("connection") is None
    assert response.header("transfer-encoding") == "chunked"
    assert response.body == b"x" * 300_000
    rig.api.script = answer()
    assert rig.get(client=client).status == 200


def test_a_client_without_chunks_gets_a_body_until_the_end_in_chunks(rig: Rig) -> None:
    rig.api.script = says(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 300_000, "finish")
    client = rig.client()
    client.send(b"GET /tunnel/c1/x HTTP/1.0\r\nHost: a\r\n\r\n")
    head, _, body = client.rest().partition(b"\r\n\r\n")
    assert head == b"HTTP/1.1 200 OK\r\nConnection: close"
    assert body == b"x" * 300_000


def test_an_empty_body_until_the_end_never_ends(rig: Rig) -> None:
    rig.api.script = says(b"HTTP/1.1 200 OK\r\n\r\n", "finish")
    client = rig.client()
    assert rig.get(client=client).body == b""
    rig.api.script = answer()
    assert rig.get(client=client).status == 200


@pytest.mark.parametrize("then", ["close", "abort"])
def test_a_body_until_the_end_that_is_cut_is_aborted(rig: Rig, then: str) -> None:
    go = Gate()

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(UNTIL_CLOSE)
        go.wait()
        getattr(peer, then)()

    rig.api.script = script
    client = rig.client()
    client.send(b"GET /tunnel/c1/x HTTP/1.1\r\nHost: a\r\n\r\n")
    client.until(b"half")
    go.open()
    assert client.ended() == "reset"


def test_bytes_behind_an_answer_reach_nobody(rig: Rig) -> None:
    rig.api.script = says(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    client = rig.client()
    assert rig.get(client=client).body == b"ok"
    rig.api.script = answer(body=b"good")
    assert rig.get(client=client).body == b"good"
    assert rig.api.connections == 2


def test_an_answer_to_no_request_reaches_nobody(rig: Rig) -> None:
    go = Gate()

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(OK)
        go.wait()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        peer.rest()

    rig.api.script = script
    client = rig.client()
    assert rig.get(client=client).body == b"ok"
    go.open()
    until(lambda: not rig.api.live, "the end of the connection that said too much")
    rig.api.script = answer(body=b"good")
    assert rig.get(client=client).body == b"good"


# ── kept connections ───────────────────────────────────────────────────────────────────────────


def test_after_connection_close_the_next_request_has_a_fresh_connection(rig: Rig) -> None:
    rig.api.script = says(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", "finish")
    client = rig.client()
    for _ in range(3):
        response = rig.get(client=client)
        assert (response.status, response.header("connection")) == (200, None)
    assert rig.api.connections == 3


@pytest.mark.parametrize("then", ["finish", "close", "abort"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_api_that_ends_an_idle_connection_is_asked_on_a_fresh_one(
    rig: Rig, method: str, then: str
) -> None:
    rig.api.script = says(OK, then)
    client = rig.client()
    for number in range(3):
        client.send(b"%b /tunnel/c1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" % method.encode())
        assert client.response().body == b"ok"
        forgotten(rig)
        assert rig.api.connections == number + 1


def hangs_up_on_the_second(heads: list[bytes], then: str) -> Script:
    """One answer per connection; a second request is read, and the connection ended without a word."""

    def script(peer: Peer) -> None:
        heads.append(peer.head())
        peer.send(OK)
        heads.append(peer.head())
        getattr(peer, then)()

    return script


@pytest.mark.parametrize("then", ["finish", "close", "abort"])
def test_a_get_that_meets_a_dead_kept_connection_is_sent_once_more(rig: Rig, then: str) -> None:
    heads: list[bytes] = []
    rig.api.script = hangs_up_on_the_second(heads, then)
    client = rig.client()
    assert rig.get("/tunnel/c1/first", client=client).body == b"ok"
    assert rig.get("/tunnel/c1/second", client=client).body == b"ok"
    assert [head.split(b" ")[1] for head in heads] == [b"/first", b"/second", b"/second"]
    assert rig.api.connections == 2


def test_kept_connections_that_die_one_after_the_other_cost_no_get(rig: Rig) -> None:
    heads: list[bytes] = []
    rig.api.script = hangs_up_on_the_second(heads, "finish")
    client = rig.client()
    for _ in range(4):
        assert rig.get(client=client).body == b"ok"
    assert rig.api.connections == 4
    assert len(heads) == 7


def test_a_get_that_meets_two_dead_connections_is_a_502_and_not_sent_for_ever(rig: Rig) -> None:
    rig.api.script = says(OK, "head")
    client = rig.client()
    assert rig.get(client=client).body == b"ok"
    rig.api.script = says(b"", "finish")
    response = rig.get(client=client)
    assert response.status == 502
    assert rig.api.connections == 2


@pytest.mark.parametrize("then", ["finish", "close", "abort"])
@pytest.mark.parametrize("request_body", [b"", b"body"], ids=["without a body", "with a body"])
def test_a_post_that_meets_a_dead_kept_connection_is_left_to_the_client(
    rig: Rig, request_body: bytes, then: str
) -> None:
    heads: list[bytes] = []
    rig.api.script = hangs_up_on_the_second(heads, then)
    client = rig.client()
    assert rig.get(client=client).body == b"ok"
    client.send(b"POST /tunnel/c1/x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(request_body))
    client.send(request_body)
    assert client.ended() == "reset"
    assert client.buffer == b""
    assert [head.split(b" ")[0] for head in heads] == [b"GET", b"POST"]


def test_an_api_that_restarts_is_reached_again(rig: Rig) -> None:
    rig.api.script = answer()
    client = rig.client()
    assert rig.get(client=client).status == 200
    rig.api.stop()
    until(lambda: not rig.api.live, "the end of the API's connections")
    response = rig.get(client=client)
    assert (response.status, response.header("retry-after")) == (503, "1")
    rig.api.start(rig.authority)
    assert rig.get(client=client).status == 200


def test_an_api_that_is_down_refuses_a_post_with_its_body_read(rig: Rig) -> None:
    rig.api.script = answer()
    client = rig.client()
    assert rig.get(client=client).status == 200
    rig.api.stop()
    forgotten(rig)
    client.send(
        b"POST /tunnel/c1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000
    )
    assert client.response().status == 503
    rig.api.start(rig.authority)
    assert rig.get().status == 200
