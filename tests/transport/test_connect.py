"""The agent's end of a WebSocket: every answer a server can give, and the frames behind it."""

import base64
import hashlib
import logging

import gevent
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from argotun import __version__
from argotun.errors import ArgotunError, HandshakeError, ProtocolError
from argotun.transport.connect import connect
from argotun.wire.websocket import OP_BINARY, OP_CLOSE, OP_PING, OP_PONG, FrameReader, pack, pack_close

TOKEN = "s3cr3t-token"
HOST = "argotun.example:8443"
TARGET = "/connect?a=b"


def digest(request):
    key = next(
        line[18:].strip() for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:")
    )
    return base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())


def upgrade(request, *more, without=None, **replaced):
    """The right 101 for a request, with fields replaced, left out or added."""
    fields = {
        "Upgrade": b"websocket",
        "Connection": b"Upgrade",
        "Sec-WebSocket-Accept": digest(request),
        **replaced,
    }
    fields.pop(without, None)
    lines = [
        b"HTTP/1.1 101 Switching Protocols",
        *(name.encode() + b": " + value for name, value in fields.items()),
    ]
    return b"\r\n".join([*lines, *more, b"", b""])


@pytest.fixture
def against(pair, read_head, close_later):
    """Connect to a server that runs `answer(request) -> bytes`, or `answer(request, sock)`."""

    def run(
        answer,
        *,
        headers=(("Authorization", f"Bearer {TOKEN}"),),
        subprotocols=("argotun.v2",),
        timeout=5.0,
        host=HOST,
        target=TARGET,
    ):
        near, far = pair()
        run.agent, run.server = near, far

        def serve():
            run.request = read_head(far)
            data = answer(run.request)
            if data is not None:
                far.sendall(data)

        close_later(gevent.spawn(serve))
        return connect(near, host, target, list(headers), subprotocols, timeout)

    return run


def refusal(against, answer, **options):
    with pytest.raises(HandshakeError) as caught:
        against(answer, **options)
    return caught.value


def test_the_request_says_what_an_upgrade_must(against):
    against(upgrade, subprotocols=("argotun.v2", "other"))
    lines = against.request.split(b"\r\n")
    assert lines[0] == b"GET /connect?a=b HTTP/1.1"
    assert b"Host: argotun.example:8443" in lines
    assert b"Upgrade: websocket" in lines
    assert b"Connection: Upgrade" in lines
    assert b"Sec-WebSocket-Version: 13" in lines
    assert f"User-Agent: argotun/{__version__}".encode() in lines
    assert b"Sec-WebSocket-Protocol: argotun.v2, other" in lines
    assert f"Authorization: Bearer {TOKEN}".encode() in lines
    assert b"Extensions" not in against.request


@pytest.mark.parametrize(("host", "target"), [("h.example", "/connect"), ("[::1]:8443", "/c")])
def test_the_request_names_host_and_target(against, host, target):
    against(upgrade, host=host, target=target)
    assert against.request.startswith(f"GET {target} HTTP/1.1\r\n".encode())
    assert f"\r\nHost: {host}\r\n".encode() in against.request


@pytest.mark.parametrize(
    ("chosen", "offered"),
    [(None, ("argotun.v2",)), ("argotun.v2", ("argotun.v2",)), ("b", ("a", "b")), (None, ())],
)
def test_the_servers_choice_of_subprotocol_is_known(against, chosen, offered):
    more = [b"Sec-WebSocket-Protocol: " + chosen.encode()] if chosen else []
    assert against(lambda request: upgrade(request, *more), subprotocols=offered).subprotocol == chosen


@pytest.mark.parametrize(
    "chosen", [b"argotun.v2x", b"argotun", b"v2", b"ARGOTUN.V2", b"", b"argotun.v2, argotun.v2", b"\xe9"]
)
def test_a_subprotocol_that_was_not_offered_is_refused(against, chosen):
    error = refusal(against, lambda request: upgrade(request, b"Sec-WebSocket-Protocol: " + chosen))
    assert error.status == 101


@pytest.mark.parametrize("cut", [0, 1, 5, 17])
def test_frames_that_came_with_the_101_are_read_first(against, cut):
    frames = pack(OP_BINARY, [b"first"]) + pack(OP_BINARY, [b"second"])
    message_socket = against(lambda request: upgrade(request) + frames[: len(frames) - cut])
    against.server.sendall(frames[len(frames) - cut :])
    assert message_socket.receive() == b"first"
    assert message_socket.receive() == b"second"


def test_a_101_that_comes_byte_by_byte_is_accepted(against):
    def slowly(request):
        for byte in upgrade(request):
            against.server.sendall(bytes([byte]))
            gevent.sleep(0)

    assert against(slowly).subprotocol is None


def test_interim_answers_before_the_101_are_skipped(against):
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    frames = pack(OP_BINARY, [b"x"])
    assert against(lambda request: early + upgrade(request) + frames).receive() == b"x"


INVALID = {
    "wrong accept": lambda r: upgrade(r, **{"Sec-WebSocket-Accept": b"AAAAAAAAAAAAAAAAAAAAAAAAAAA="}),
    "no accept": lambda r: upgrade(r, without="Sec-WebSocket-Accept"),
    "two accepts": lambda r: upgrade(r, b"Sec-WebSocket-Accept: " + digest(r)),
    "no Upgrade": lambda r: upgrade(r, without="Upgrade"),
    "another Upgrade": lambda r: upgrade(r, Upgrade=b"h2c"),
    "no Connection": lambda r: upgrade(r, without="Connection"),
    "another Connection": lambda r: upgrade(r, Connection=b"keep-alive"),
    "an extension that was not offered": lambda r: upgrade(
        r, b"Sec-WebSocket-Extensions: permessage-deflate"
    ),
}


@pytest.mark.parametrize("answer", INVALID.values(), ids=INVALID)
def test_an_upgrade_that_is_not_valid_is_refused(against, answer):
    error = refusal(against, answer)
    assert error.status == 101
    assert any(words in str(error) for words in ("upgrade is not valid", "twice", "does not upgrade"))


STATUSES = {
    401: "does not accept the token",
    403: "denies access",
    404: "no tunnel endpoint",
    407: "a proxy wants credentials",
    426: "another kind of connection",
    429: "try again later",
    503: "not ready",
    500: "refused the upgrade",
    200: "refused the upgrade",
}


@pytest.mark.parametrize("status", STATUSES)
def test_a_refusal_tells_its_status_in_words(against, status):
    error = refusal(against, lambda _: b"HTTP/1.1 %d Whatever It Is\r\nContent-Length: 0\r\n\r\n" % status)
    assert error.status == status
    assert STATUSES[status] in str(error)
    assert f"({status} Whatever It Is)" in str(error)


ECHOES = {
    "reason": b"HTTP/1.1 400 %b\r\nContent-Length: 0\r\n\r\n",
    "bearer": b"HTTP/1.1 400 Bearer %b\r\nContent-Length: 0\r\n\r\n",
    "location": b"HTTP/1.1 302 Found\r\nLocation: https://login.example/?token=%b\r\n\r\n",
    "no HTTP": b"%b\r\n",
    "cut": b"HTTP/1.1 400 " + b"x" * 190 + b"%b\r\nContent-Length: 0\r\n\r\n",
    "accept": b"HTTP/1.1 101 Switching\r\nUpgrade: %b\r\nConnection: Upgrade\r\n\r\n",
}


@pytest.mark.parametrize("answer", ECHOES.values(), ids=ECHOES)
def test_words_that_repeat_the_token_are_not_shown(against, answer):
    token = b"s3cr3t-of-the-agent-0123456789"
    headers = [("Authorization", f"Bearer {token.decode()}")]
    error = refusal(against, lambda _: answer % token, headers=headers)
    assert not any(token[at : at + 8].decode() in repr(error) for at in range(len(token) - 7))
    assert error.__cause__ is None


def test_a_body_that_repeats_the_token_is_not_shown(against):
    token = "s3cr3t-of-the-agent-0123456789"
    body = f"no such token: {token}".encode()
    head = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\n\r\n" % len(body)
    error = refusal(against, lambda _: head + body, headers=[("Authorization", f"Bearer {token}")])
    assert str(error).startswith("the server does not accept the token; its words are not shown")


def test_a_redirect_is_not_followed_and_says_where(against):
    error = refusal(against, lambda _: b"HTTP/1.1 302 Found\r\nLocation: https://login.example/\r\n\r\n")
    assert error.status == 302
    assert "https://login.example/" in str(error)
    assert "not followed" in str(error)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"kind":"Status","message":"argotun: unknown token"}', "argotun: unknown token"),
        (b"plain words\n", "plain words"),
        (b"<html><h1>Nope</h1></html>", ""),
        (b"two\nlines\x1b[31m\x00", "two lines [31m"),
        (b"[1]", ""),
        (b"[" * 4000, "[" * 199 + "…"),
        (b"\xff\xfe", "��"),
        (b"x" * 4000, "x" * 199 + "…"),
    ],
)
def test_a_refusals_body_is_told_in_one_short_line(against, body, said):
    head = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\n\r\n" % len(body)

    def answer(_):
        against.server.sendall(head)
        gevent.sleep(0)
        return body

    assert str(refusal(against, answer)).partition("(401 Unauthorized)")[2] == (f": {said}" if said else "")


def test_a_refusals_body_that_never_comes_is_not_waited_for(against):
    with gevent.Timeout(4):
        error = refusal(against, lambda _: b"HTTP/1.1 401 No\r\nContent-Length: 999\r\n\r\npart", timeout=30)
    assert str(error).endswith(": part")


GARBAGE = {
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "TLS alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "HTTP/2 settings": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    "HTTP/0.9": b"<html></html>",
    "HTTP/2 status line": b"HTTP/2 200\r\n\r\n",
    "status of four digits": b"HTTP/1.1 1010 X\r\n\r\n",
    "status of letters": b"HTTP/1.1 abc X\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 101 X\nUpgrade: websocket\n\n",
    "header line without a colon": b"HTTP/1.1 101 X\r\nnonsense\r\n\r\n",
    "space before the colon": b"HTTP/1.1 101 X\r\nUpgrade : websocket\r\n\r\n",
    "folded header": b"HTTP/1.1 101 X\r\nUpgrade: web\r\n socket\r\n\r\n",
    "NUL in a header": b"HTTP/1.1 101 X\r\nUpgrade: web\0socket\r\n\r\n",
    "blank line alone": b"\r\n\r\n",
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_refused_in_words(against, data):
    error = refusal(against, lambda _: data)
    assert "the server " in str(error)
    assert error.status == (101 if data.startswith(b"HTTP/1.1 101 ") else None)
    assert str(error).isprintable()


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 10", b"HTTP/1.1 101 X\r\nUpgrade: web"])
def test_a_server_that_closes_before_its_answer_is_told(against, sent):
    def answer(_):
        against.server.sendall(sent)
        against.server.close()

    assert "closed the connection" in str(refusal(against, answer))


def test_a_server_that_resets_is_told(against):
    def answer(_):
        import socket
        import struct

        against.server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        against.server.close()

    assert "reset" in str(refusal(against, answer))


def test_a_silent_server_is_given_up(against):
    assert "in time" in str(refusal(against, lambda _: None, timeout=0.1))


def test_a_server_that_dribbles_is_given_up(against):
    def answer(_):
        against.server.sendall(b"HTTP/1.1 101 X\r\n")
        while True:
            against.server.sendall(b"A: b\r\n")
            gevent.sleep(0.02)

    assert "in time" in str(refusal(against, answer, timeout=0.3))


def test_a_server_that_floods_headers_is_cut_off(against):
    def answer(_):
        against.server.sendall(b"HTTP/1.1 101 X\r\n")
        while True:
            against.server.sendall(b"A: " + b"b" * 1000 + b"\r\n")

    assert "did not answer in HTTP/1.1" in str(refusal(against, answer, timeout=30))


@pytest.mark.parametrize("bad", [f"{TOKEN}\r\nX: y", f"{TOKEN}\n", f"{TOKEN}\0", f"{TOKEN}é\u20ac"])
def test_a_token_with_a_bad_character_is_not_shown(against, bad, caplog):
    caplog.set_level(logging.DEBUG)
    error = refusal(against, upgrade, headers=[("Authorization", bad)])
    seen = [error]
    while error.__cause__ is not None:
        error = error.__cause__
        seen.append(error)
    assert TOKEN not in repr(seen) + str(seen[0]) + caplog.text
    assert seen[0].__suppress_context__


def test_the_token_is_not_kept(against):
    message_socket = against(upgrade)
    assert TOKEN not in repr(vars(message_socket))


@pytest.mark.parametrize(("host", "target"), [("x" * 70, "/c"), ("h", "/é"), ("h", "/a b")])
def test_what_cannot_be_asked_for_is_refused(against, host, target):
    with pytest.raises(HandshakeError):
        against(upgrade, host=host, target=target, timeout=0.2)


def test_frames_are_masked_with_a_new_key_each(against):
    message_socket = against(upgrade)
    frames = [message_socket.pack([b"same", b" bytes"]) for _ in range(50)]
    assert len({frame[2:6] for frame in frames}) > 45
    reader = FrameReader(True, 1000)
    reader.feed(b"".join(frames))
    assert [reader.next_message() for _ in frames] == [b"same bytes"] * 50


def test_a_masked_server_frame_is_refused(against):
    message_socket = against(lambda request: upgrade(request) + pack(OP_BINARY, [b"x"], b"abcd"))
    with pytest.raises(ProtocolError) as caught:
        message_socket.receive()
    assert caught.value.close_code == 1002


def test_eight_gibibytes_announced_are_refused_at_once(against):
    message_socket = against(lambda request: upgrade(request) + b"\x82\x7f" + (8 << 30).to_bytes(8, "big"))
    with pytest.raises(ProtocolError) as caught:
        message_socket.receive()
    assert caught.value.close_code == 1009


def test_pings_and_closes_are_answered_masked_by_way_of_send_control(against):
    frames = pack(OP_PING, [b"?"]) + pack_close(1012, "restarting")
    message_socket = against(lambda request: upgrade(request) + frames)
    sent = []
    message_socket.send_control = sent.append
    assert message_socket.receive() is None
    assert [frame[0] & 15 for frame in sent] == [OP_PONG, OP_CLOSE]
    assert all(frame[1] & 0x80 for frame in sent)


def test_no_timeout_of_the_handshake_stays_on_the_socket(against):
    message_socket = against(upgrade, timeout=0.5)
    assert message_socket.sock.gettimeout() is None


class Script:
    """A socket that answers with fixed bytes, then ends."""

    def __init__(self, data):
        self.data = data

    def settimeout(self, _seconds):
        pass

    def sendall(self, _data):
        pass

    def recv(self, size):
        data, self.data = self.data[:size], self.data[size:]
        return data


PIECES = [
    b"HTTP/1.1 101 X\r\n",
    b"HTTP/1.0 200 OK\r\n",
    b"HTTP/1.1 503\r\n",
    b"HTTP/1.1 100 C\r\n\r\n",
    b"Upgrade: websocket\r\n",
    b"Connection: Upgrade\r\n",
    b"Sec-WebSocket-Accept: x\r\n",
    b"Sec-WebSocket-Protocol: \xe9\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: x\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"hello",
    b"\r\n",
    b"\n",
]
answers = st.lists(st.sampled_from(PIECES) | st.binary(max_size=20), max_size=10).map(b"".join)


@given(answers)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_answer_is_an_upgrade_or_a_handshake_error(data):
    with pytest.raises(ArgotunError) as caught:
        connect(Script(data), HOST, TARGET, [], ("argotun.v2",), 1.0)
    assert isinstance(caught.value, HandshakeError)
    assert len(str(caught.value)) < 600
