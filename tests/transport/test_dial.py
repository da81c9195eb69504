"""Dialling: names with several addresses, some of which do not answer, within one deadline."""

import socket
import time

import gevent
import pytest
from gevent import socket as gevent_socket

from argotun.errors import DialError, NameLost
from argotun.transport import resolve as module
from argotun.transport.race import STAGGER
from bench.ports import held
from tests.deaf import hear_all_but, hear_nobody
from tests.transport.dialling import dial


@pytest.fixture
def hello(serve):
    """A server that says hello to whoever comes."""
    return serve(lambda sock: sock.sendall(b"hello"))


@pytest.fixture
def deaf(close_later):
    """The (host, port) of an address that neither accepts nor refuses: its backlog is full."""
    listening = close_later(socket.create_server(("127.0.0.1", 0), backlog=0))
    address = listening.getsockname()
    for _ in range(3):
        filler = close_later(socket.socket())
        filler.setblocking(False)
        filler.connect_ex(address)
    return address


@pytest.fixture
def resolved(monkeypatch):
    """Let every name have the given addresses."""

    def become(*addresses):
        asked = []

        def getaddrinfo(host, port, *_args, **_named):
            asked.append(host)
            return [
                (
                    socket.AF_INET6 if ":" in name else socket.AF_INET,
                    socket.SOCK_STREAM,
                    6,
                    "",
                    (name, number),
                )
                for name, number in addresses
            ]

        monkeypatch.setattr(module._socket, "getaddrinfo", getaddrinfo)
        return asked

    return become


@pytest.fixture
def refusing():
    """The (host, port) of an address where nothing listens."""
    with held() as port:
        yield port.getsockname()


def greeting(sock):
    with sock:
        return sock.recv(5)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_is_reached(hello, host):
    assert greeting(dial(host, hello[1], 5)) == b"hello"


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_ipv6_literal_is_reached_with_and_without_brackets(serve, host):
    try:
        _, port = serve(lambda sock: sock.sendall(b"hello"), "::1")
    except OSError:
        pytest.skip("needs IPv6 on loopback")
    assert greeting(dial(host, port, 5)) == b"hello"


def test_long_links_get_their_socket_options(hello):
    with dial(*hello, 5) as sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert 30 <= sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) < 90
        assert 10 <= sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) < 30
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
        assert sock.gettimeout() is None


def test_probes_of_many_idle_connections_do_not_leave_together(hello):
    idle = set()
    for _ in range(50):
        with dial(*hello, 5) as sock:
            idle.add(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE))
    assert len(idle) > 10


def test_the_next_address_is_tried_when_one_refuses(hello, refusing, resolved):
    resolved(refusing, refusing, hello)
    assert greeting(dial("api.example", 1, 5)) == b"hello"


def test_the_next_address_is_tried_beside_one_that_does_not_answer(hello, deaf, resolved):
    resolved(deaf, deaf, hello)
    before = time.monotonic()
    assert greeting(dial("api.example", 1, 30)) == b"hello"
    assert time.monotonic() - before >= 2 * STAGGER - 0.05


def test_a_slow_first_address_still_wins_over_those_that_fail(close_later, refusing, resolved):
    slow = close_later(socket.create_server(("127.0.0.1", 0)))
    hear_nobody(slow)
    resolved(slow.getsockname(), refusing, refusing)
    dialling = gevent.spawn(dial, "api.example", 1, 20)
    gevent.sleep(2 * STAGGER)
    hear_all_but(slow, 0)
    with dialling.get() as sock:
        assert sock.getpeername() == slow.getsockname()


def test_only_one_connection_is_kept(serve, resolved):
    arrived = []
    first = serve(lambda sock: (arrived.append(sock), sock.recv(1)))
    second = serve(lambda sock: (arrived.append(sock), sock.recv(1)))
    resolved(first, second)
    with dial("api.example", 1, 5) as sock:
        gevent.sleep(0.05)
        assert [s for s in arrived if s.fileno() != -1] == arrived[:1]
        assert sock.getpeername() == first


def test_families_take_turns():
    six, four = (socket.AF_INET6, "6"), (socket.AF_INET, "4")
    assert module._in_turn([six, six, six, four, four]) == [six, four, six, four, six]
    assert module._in_turn([four, six, six]) == [four, six, six]


def test_every_address_is_named_when_none_answers(refusing, resolved):
    resolved(refusing, ("127.0.0.2", 1), ("::1", 1))
    with pytest.raises(DialError) as caught:
        dial("api.example", 6443, 5)
    message = str(caught.value)
    assert message.startswith("cannot connect to api.example:6443: ")
    for name in ("127.0.0.1: connection refused", "127.0.0.2: connection refused", "::1: "):
        assert name in message


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_an_address_that_is_dialled_as_such_is_named_once(host):
    with held(host.strip("[]")) as closed:
        port = closed.getsockname()[1]
        with pytest.raises(DialError) as caught:
            dial(host, port, 5)
    assert str(caught.value) == f"cannot connect to {host}:{port}: connection refused"


@pytest.mark.parametrize("times", [1, 3])
def test_addresses_that_do_not_answer_are_given_up_together(deaf, resolved, times):
    resolved(*[deaf] * times)
    before = time.monotonic()
    with pytest.raises(DialError, match=r"127\.0\.0\.1: no answer in time"):
        dial("api.example", 1, 0.4)
    assert time.monotonic() - before >= 0.39


def test_a_resolver_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(module._socket, "getaddrinfo", lambda *_a, **_k: gevent.sleep(60))
    with pytest.raises(NameLost, match="not resolved in time"):
        dial("api.example", 1, 0.1)


def test_the_name_is_resolved_anew_each_time(hello, resolved):
    asked = resolved(hello)
    for _ in range(3):
        dial("api.example", 1, 5).close()
    assert asked == ["api.example"] * 3


def test_the_resolver_does_not_block_the_event_loop(monkeypatch):
    assert module._socket.getaddrinfo is gevent_socket.getaddrinfo


def test_an_unknown_name_is_told(monkeypatch):
    def unknown(*_args, **_named):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(module._socket, "getaddrinfo", unknown)
    with pytest.raises(NameLost, match=r"cannot connect to api\.example:1: the name cannot be resolved"):
        dial("api.example", 1, 5)


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("", 1),
        ("x" * 300, 1),
        ("a..b", 1),
        ("a\0b", 1),
        ("127.0.0.1", 0),
        ("127.0.0.1", 65536),
        ("127.0.0.1", -1),
    ],
)
def test_what_cannot_be_dialled_is_told(host, port):
    with pytest.raises(DialError, match="not a name and port that can be dialled"):
        dial(host, port, 5)


def test_a_timeout_of_the_caller_is_not_taken_for_ours(deaf, resolved):
    resolved(deaf, deaf)
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.05):
        dial("api.example", 1, 5)
