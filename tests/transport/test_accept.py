"""The server's end of a WebSocket: upgrades that are refused, and frames that are."""

import base64
import gc
import hashlib
import logging

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from argotun.errors import ConnectionLost, HeadError, ProtocolError
from argotun.transport.accept import accept
from argotun.wire.head import parse_request
from argotun.wire.websocket import OP_BINARY, OP_CLOSE, OP_PING, OP_PONG, FrameReader, pack, pack_close

NONCE = "dGhlIHNhbXBsZSBub25jZQ=="
MASK = b"\x01\x02\x03\x04"
GOOD = {
    "Host": "argotun.example",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": NONCE,
}


def head(changes=(), method="GET", minor=1):
    """The head of an upgrade with some fields changed, or left out where None; HeadError."""
    fields = {**GOOD, **dict(changes)}
    lines = [f"{name}: {value}\r\n" for name, value in fields.items() if value is not None]
    return parse_request(f"{method} /connect HTTP/1.{minor}\r\n{''.join(lines)}\r\n".encode("latin-1"))


def masked(payload, opcode=OP_BINARY):
    return pack(opcode, [payload], MASK)


class Sink:
    """A socket that only takes what is written."""

    def __init__(self):
        self.data = b""
        self._sock = self

    def recv(self, size):
        raise OSError("nothing is read from it")

    def sendall(self, data):
        self.data += data


@pytest.fixture
def accepted(pair, read_head):
    """A MessageSocket and the agent's end of its connection."""

    def make(leftover=b"", subprotocols=(), **changes):
        near, far = pair()
        message_socket = accept(near, head(changes), leftover, subprotocols)
        make.answer = read_head(far)
        return message_socket, far

    return make


def test_an_upgrade_is_answered_with_the_keys_digest(accepted):
    message_socket, _ = accepted()
    digest = hashlib.sha1((NONCE + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    lines = accepted.answer.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 101 Switching Protocols"
    assert set(lines[1:-2]) == {
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest),
    }
    assert message_socket.subprotocol is None


REFUSED = {
    "no Upgrade": ({"Upgrade": None}, 426),
    "another Upgrade": ({"Upgrade": "SPDY/3.1"}, 426),
    "no Connection": ({"Connection": None}, 400),
    "Connection that merely contains upgrade": ({"Connection": "no-upgrade-please"}, 400),
    "no version": ({"Sec-WebSocket-Version": None}, 426),
    "version 8, which the library takes": ({"Sec-WebSocket-Version": "8"}, 426),
    "version 7, which the library takes": ({"Sec-WebSocket-Version": "7"}, 426),
    "version 13 twice": ({"Sec-WebSocket-Version": "13, 13"}, 426),
    "no key": ({"Sec-WebSocket-Key": None}, 400),
    "empty key": ({"Sec-WebSocket-Key": ""}, 400),
    "short key": ({"Sec-WebSocket-Key": "c2hvcnQ="}, 400),
    "key with broken padding": ({"Sec-WebSocket-Key": NONCE[:-1]}, 400),
    "key that is no base64": ({"Sec-WebSocket-Key": "!" * 24}, 400),
    "key with junk that base64 skips": ({"Sec-WebSocket-Key": "*" + NONCE}, 400),
    "key of other letters": ({"Sec-WebSocket-Key": "é" * 22 + "=="}, 400),
    "two keys": ({"sec-websocket-key": NONCE}, 400),
    "key under another name": ({"Sec-WebSocket-Key": None, "Sec_WebSocket_Key": NONCE}, 400),
    "subprotocol that is no token": ({"Sec-WebSocket-Protocol": "a b"}, 400),
}


@pytest.mark.parametrize(("changes", "status"), REFUSED.values(), ids=REFUSED)
def test_a_bad_upgrade_is_refused_and_nothing_is_written(changes, status):
    sink = Sink()
    with pytest.raises(HeadError) as caught:
        accept(sink, head(changes), b"", ("argotun.v2",))
    assert caught.value.status == status
    gc.collect()
    assert sink.data == b""


@pytest.mark.parametrize(("method", "minor"), [("POST", 1), ("get", 1), ("GET", 0)])
def test_only_a_get_of_http_1_1_is_upgraded(method, minor):
    with pytest.raises(HeadError):
        accept(Sink(), head(method=method, minor=minor))


@given(
    st.dictionaries(
        st.sampled_from([*GOOD, "Sec-WebSocket-Protocol", "sec-websocket-key", "Origin"]),
        st.none() | st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=40),
        max_size=4,
    )
)
def test_any_head_is_upgraded_or_refused_with_its_status(changes):
    status = None
    try:
        accept(Sink(), head(changes), b"", ("argotun.v2",))
    except HeadError as error:
        status = error.status
    assert status in (None, 400, 426)


@pytest.mark.parametrize(
    "offered",
    ["argotun.v2x", "xargotun.v2", "argotun.v22, argotun", "ARGOTUN.V2", "argotun/v2".replace("/", "_")],
)
def test_a_subprotocol_that_merely_contains_ours_is_not_agreed(accepted, offered):
    message_socket, _ = accepted(subprotocols=("argotun.v2",), **{"Sec-WebSocket-Protocol": offered})
    assert message_socket.subprotocol is None
    assert b"Sec-WebSocket-Protocol" not in accepted.answer


@pytest.mark.parametrize(
    "offered", ["argotun.v2", "argotun.v3 ,argotun.v2", "xargotun.v2,argotun.v2, argotun.v1"]
)
def test_our_subprotocol_is_agreed_wherever_it_stands(accepted, offered):
    message_socket, _ = accepted(subprotocols=("argotun.v2",), **{"Sec-WebSocket-Protocol": offered})
    assert message_socket.subprotocol == "argotun.v2"
    assert b"\r\nSec-WebSocket-Protocol: argotun.v2\r\n" in accepted.answer


def test_our_order_of_subprotocols_counts(accepted):
    message_socket, _ = accepted(subprotocols=("b", "a"), **{"Sec-WebSocket-Protocol": "a, b"})
    assert message_socket.subprotocol == "b"


def test_frames_that_came_with_the_head_are_read_first(accepted):
    early = masked(b"one") + masked(b"two") + masked(b"three")[:3]
    message_socket, agent = accepted(leftover=early)
    assert message_socket.receive() == b"one"
    assert message_socket.receive() == b"two"
    agent.sendall(masked(b"three")[3:])
    assert message_socket.receive() == b"three"


def test_the_librarys_own_socket_writes_nothing_when_it_is_collected(accepted):
    message_socket, agent = accepted()
    del message_socket
    gc.collect()
    agent.settimeout(0)
    with pytest.raises(BlockingIOError):
        agent.recv(1)


def test_the_librarys_words_do_not_reach_the_log(accepted, caplog):
    caplog.set_level(logging.DEBUG)
    accepted()
    assert not caplog.records


def test_eight_gibibytes_announced_are_refused_at_once(accepted):
    message_socket, agent = accepted()
    agent.sendall(b"\x82\xff" + (8 << 30).to_bytes(8, "big"))
    with pytest.raises(ProtocolError) as caught:
        message_socket.receive()
    assert caught.value.close_code == 1009


def test_an_unmasked_frame_is_refused(accepted):
    message_socket, agent = accepted()
    agent.sendall(pack(OP_BINARY, [b"x"]))
    with pytest.raises(ProtocolError) as caught:
        message_socket.receive()
    assert caught.value.close_code == 1002


def test_max_message_holds_from_when_it_is_set(accepted):
    message_socket, agent = accepted()
    message_socket.max_message = 100
    assert message_socket.max_message == 100
    agent.sendall(masked(bytes(100)) + masked(bytes(101)))
    assert message_socket.receive() == bytes(100)
    with pytest.raises(ProtocolError, match="limit of 100"):
        message_socket.receive()


def test_a_ping_is_answered_by_way_of_send_control(accepted):
    message_socket, agent = accepted()
    sent = []
    message_socket.send_control = sent.append
    agent.sendall(masked(b"are you there", OP_PING) + masked(b"data"))
    assert message_socket.receive() == b"data"
    # In the order in which they came: whoever handles the message may take long, or answer it.
    assert sent == [pack(OP_PONG, [b"are you there"])]
    agent.sendall(masked(b"", OP_CLOSE))
    assert message_socket.receive() is None
    assert sent == [pack(OP_PONG, [b"are you there"]), pack(OP_CLOSE, [])]


def test_a_flood_of_pings_makes_one_pong_per_read(accepted):
    sent = []
    message_socket, _ = accepted(leftover=masked(b"p", OP_PING) * 10_000)
    message_socket.send_control = sent.append
    reader = gevent.spawn(message_socket.receive)
    with gevent.Timeout(10):
        while not sent:
            gevent.sleep(0.001)
    # All of it had been read by then.
    assert len(sent) == 1
    reader.kill()


def test_without_an_owner_control_frames_go_to_the_socket(accepted):
    message_socket, agent = accepted()
    agent.sendall(masked(b"?", OP_PING) + pack_close(1001, "bye", MASK))
    assert message_socket.receive() is None
    expected = pack(OP_PONG, [b"?"]) + pack_close(1001)
    received = b""
    while len(received) < len(expected):
        received += agent.recv(100)
    assert received == expected


def test_the_code_and_reason_of_close_arrive_unmangled_and_once(accepted):
    message_socket, agent = accepted()
    message_socket.close(1008, "who are you")
    message_socket.close(1011, "again")
    message_socket.sock.close()
    reader = FrameReader(False, 1000)
    data = b"".join(iter(lambda: agent.recv(100), b""))
    reader.feed(data)
    assert reader.next_message() is None
    assert reader.close_code == 1008
    assert data == pack_close(1008, "who are you")


def test_nothing_is_sent_behind_our_close(accepted):
    message_socket, agent = accepted()
    sent = []
    message_socket.send_control = sent.append
    message_socket.close(1000)
    agent.sendall(masked(b"?", OP_PING) + masked(b"", OP_CLOSE))
    assert message_socket.receive() is None
    assert sent == [pack_close(1000)]


@pytest.mark.parametrize(
    ("sent", "words"), [(b"", "without a close frame"), (masked(b"cut")[:-1], "in the middle of a message")]
)
def test_an_end_without_close_is_a_lost_connection(accepted, sent, words):
    message_socket, agent = accepted()
    agent.sendall(sent)
    agent.close()
    with pytest.raises(ConnectionLost, match=words):
        message_socket.receive()


def test_closing_the_socket_wakes_the_reader(accepted):
    message_socket, _ = accepted()
    reader = gevent.spawn(message_socket.receive)
    gevent.sleep(0)
    message_socket.sock.close()
    with pytest.raises(ConnectionLost):
        reader.get()


def test_an_agent_that_left_before_the_answer_is_a_lost_connection(pair):
    near, far = pair()
    far.close()
    near.shutdown(2)
    with pytest.raises(ConnectionLost):
        accept(near, head())
