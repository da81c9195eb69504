"""Listening: nothing that one client does, or leaves undone, keeps another out."""

import errno
import itertools
import logging
import os
import resource
import socket
import ssl
import struct

import gevent
import pytest

from argotun.errors import HandshakeError, TransportError
from argotun.transport import handshakes
from argotun.transport import listen as module
from argotun.transport._private import raw_handshake
from argotun.transport.listen import Listener
from argotun.transport.places import Places
from argotun.transport.tls import ClientTls, ServerTls, handshake_client


@pytest.fixture
def listening(request):
    """Start a Listener that is stopped when the test ends."""

    def start(
        handle=lambda sock, peer: sock.sendall(b"hello"), address=("127.0.0.1", 0), tls=None, **options
    ):
        listener = Listener(
            address, handle, tls, **{"handshake_timeout": 10.0, "hello_timeout": 2.0, **options}
        )
        listener.start()
        request.addfinalizer(listener.stop_accepting)
        return listener

    return start


def greeting(address, timeout=5):
    with socket.create_connection(address[:2], timeout=timeout) as sock:
        return sock.recv(5)


def until(condition, deadline=5):
    with gevent.Timeout(deadline):
        while not condition():
            gevent.sleep(0.01)


def test_each_connection_is_handed_over_with_its_peer(listening):
    peers = []

    def handle(sock, peer):
        peers.append(peer)
        sock.sendall(b"hello")

    listener = listening(handle)
    with socket.create_connection(listener.address) as sock:
        assert sock.recv(5) == b"hello"
        assert peers == [sock.getsockname()]


def test_port_0_takes_a_free_port_and_tells_it(listening):
    host, port = listening().address
    assert host == "127.0.0.1"
    assert port > 0


def test_all_addresses_are_served_in_both_families(listening):
    peers = []
    listener = listening(lambda sock, peer: peers.append(peer[0]), address=("", 0))
    for host in ("127.0.0.1", "127.0.0.2", "::1"):
        try:
            greeting((host, listener.address[1]))
        except OSError:
            if host == "::1":
                pytest.skip("needs IPv6 on loopback")
            raise
    # An IPv4 client is shown as one, not as ::ffff:127.0.0.1.
    assert peers == ["127.0.0.1", "127.0.0.1", "::1"]


def without_module(monkeypatch):
    monkeypatch.setattr(module._socket, "has_dualstack_ipv6", lambda: False)


def without_addresses(monkeypatch):
    """As sysctl's disable_ipv6 leaves it: there are IPv6 sockets, and no address for one."""
    create = module._socket.create_server

    def refusing(address, *, family=socket.AF_INET, **options):
        if family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        return create(address, family=family, **options)

    monkeypatch.setattr(module._socket, "create_server", refusing)


@pytest.mark.parametrize("switch_off", [without_module, without_addresses])
def test_without_ipv6_all_ipv4_addresses_are_served(listening, monkeypatch, switch_off):
    switch_off(monkeypatch)
    listener = listening(address=("", 0))
    assert greeting(("127.0.0.1", listener.address[1])) == b"hello"


@pytest.mark.parametrize("host", ["127.0.0.1", ""])
def test_a_port_that_is_reused_is_shared_by_all_who_want_it(listening, host):
    heard = []
    first = listening(lambda sock, peer: heard.append(1), address=(host, 0), reuse_port=True)
    port = first.address[1]
    second = listening(lambda sock, peer: heard.append(2), address=(host, port), reuse_port=True)
    with pytest.raises(TransportError, match="already in use"):
        listening(address=(host, port))
    for _ in range(200):
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.recv(1)
        if set(heard) == {1, 2}:
            break
    # The kernel chooses by a hash of the addresses: one in 2**200 runs does not get here.
    assert set(heard) == {1, 2}
    first.stop_accepting()
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.recv(1)
    assert heard[-1] == 2
    second.stop_accepting()


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_ipv6_address_is_taken_with_and_without_brackets(listening, host):
    try:
        listener = listening(address=(host, 0))
    except TransportError:
        pytest.skip("needs IPv6 on loopback")
    assert greeting(listener.address) == b"hello"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (("127.0.0.1", None), "already in use"),
        (("192.0.2.1", 0), "no such address"),
        (("no.such.host.invalid", 0), "cannot be resolved"),
        (("127.0.0.1", 70000), "127.0.0.1:70000: there is no such port"),
    ],
)
def test_an_address_that_cannot_be_had_is_told(listening, address, words):
    taken = listening()
    host, port = address
    with pytest.raises(TransportError, match=words):
        Listener(
            (host, taken.address[1] if port is None else port),
            lambda *_: None,
            handshake_timeout=10.0,
            hello_timeout=2.0,
        ).start()


def test_small_answers_leave_at_once_and_dead_clients_are_noticed(listening):
    options = []
    names = (socket.IPPROTO_TCP, socket.TCP_NODELAY), (socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    listener = listening(lambda sock, peer: options.extend(sock.getsockopt(*name) for name in names))
    greeting(listener.address)
    assert options == [1, 1]


def test_the_socket_is_closed_when_the_handler_returns_or_fails(listening, caplog):
    def handle(sock, peer):
        sock.sendall(b"hello")
        raise ValueError("a defect")

    listener = listening(handle)
    for _ in range(2):
        with socket.create_connection(listener.address) as sock:
            assert sock.recv(5) == b"hello"
            assert sock.recv(5) == b""
    records = [record for record in caplog.records if record.exc_info]
    assert len(records) == 2
    assert "a defect" in caplog.text


def test_a_handler_whose_client_left_is_no_error(listening, caplog):
    def handle(sock, peer):
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

    listener = listening(handle)
    greeting(listener.address)
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


def test_stopping_refuses_new_connections_and_keeps_the_old(listening):
    listener = listening(lambda sock, peer: sock.sendall(sock.recv(5)))
    with socket.create_connection(listener.address) as sock:
        gevent.sleep(0.01)
        listener.stop_accepting()
        listener.stop_accepting()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(listener.address)
        sock.sendall(b"still")
        assert sock.recv(5) == b"still"


def test_stopping_serves_what_the_kernel_had_taken_already(listening):
    listener = listening()
    gevent.sleep(0.01)
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex(listener.address)  # into the backlog, while no greenlet gets a turn
    listener.stop_accepting()
    with client:
        client.settimeout(5)
        assert client.recv(5) == b"hello"


def test_stopping_before_the_start_is_harmless():
    Listener(("127.0.0.1", 0), lambda *_: None, handshake_timeout=10.0, hello_timeout=2.0).stop_accepting()


def test_running_out_of_descriptors_does_not_end_it(listening, caplog):
    listener = listening()
    client = socket.socket()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 8, limit[1]))
        with pytest.raises(OSError, match="Too many open files"):
            taken.extend(map(os.dup, itertools.repeat(0)))
        client.connect(listener.address)
        until(lambda: "too many open files" in caplog.text)
        gevent.sleep(3 * module._PAUSE)
        assert caplog.text.count("too many open files") == 1
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    with client:
        client.settimeout(5)
        assert client.recv(5) == b"hello"
    assert greeting(listener.address) == b"hello"


@pytest.mark.parametrize("number", sorted(module._ITS_OWN_FAULT))
def test_a_client_that_was_gone_before_it_was_accepted_is_no_error(listening, caplog, monkeypatch, number):
    listener = Listener(
        ("127.0.0.1", 0), lambda sock, peer: sock.sendall(b"hello"), handshake_timeout=10.0, hello_timeout=2.0
    )
    bind = module._bind
    errors = [OSError(number, os.strerror(number))] * 3

    class Stumbling:
        def __init__(self, sock):
            self.sock = sock

        def __getattr__(self, name):
            return getattr(self.sock, name)

        def accept(self):
            if errors:
                raise errors.pop()
            return self.sock.accept()

    monkeypatch.setattr(module, "_bind", lambda *address: Stumbling(bind(*address)))
    listener.start()
    try:
        assert greeting(listener.address) == b"hello"
    finally:
        listener.stop_accepting()
    assert not errors
    assert not caplog.records


def test_a_flood_of_connections_leaves_turns_to_others(listening, monkeypatch):
    monkeypatch.setattr(module, "_ACCEPTS_PER_TURN", 4)
    accepted = []
    listener = listening(lambda sock, peer: accepted.append(peer))
    clients = [socket.socket() for _ in range(40)]
    for client in clients:
        client.setblocking(False)
        client.connect_ex(listener.address)  # into the backlog, while no greenlet gets a turn
    seen = set()
    while len(accepted) < len(clients):
        gevent.sleep(0)
        seen.add(len(accepted))
    assert len(seen) > 4
    for client in clients:
        client.close()


# With TLS


@pytest.fixture
def tls(pki):
    return ServerTls(pki.cert, pki.key, pki.ca)


@pytest.fixture
def client_tls(pki):
    return ClientTls(pki.ca, pki.client_cert, pki.client_key)


def secure_greeting(address, client_tls):
    with handshake_client(socket.create_connection(address), client_tls.context(), "localhost", 5) as sock:
        return sock.recv(5)


def test_the_handler_gets_a_socket_behind_its_handshake(listening, tls, client_tls):
    certificates = []

    def handle(sock, peer):
        certificates.append(sock.getpeercert())
        sock.sendall(b"hello")

    listener = listening(handle, tls=tls)
    assert secure_greeting(listener.address, client_tls) == b"hello"
    assert certificates[0]["subjectAltName"] == (("DNS", "agent-1"),)


def test_silent_clients_keep_nobody_out(listening, tls, client_tls):
    listener = listening(tls=tls, handshakes=50)
    silent = [socket.create_connection(listener.address) for _ in range(20)]
    assert secure_greeting(listener.address, client_tls) == b"hello"
    for sock in silent:
        sock.close()


def test_silent_clients_are_dropped_in_time(listening, tls):
    refused = []
    listener = listening(
        tls=tls, hello_timeout=0.1, on_refused=lambda peer, error: refused.append((peer, error))
    )
    with socket.create_connection(listener.address) as sock:
        sock.settimeout(5)
        assert sock.recv(1) == b""
        (peer, error), *more = refused
        assert peer == sock.getsockname()
        assert isinstance(error, HandshakeError)
        assert not more


def a_hello():
    """A whole ClientHello."""
    hello = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(
            ssl.MemoryBIO(), hello, server_hostname="localhost"
        ).do_handshake()
    return hello.read()


def test_handshakes_over_the_limit_wait_for_a_place(listening, tls, client_tls, monkeypatch):
    monkeypatch.setattr(handshakes, "GRACE", 60)
    listener = listening(tls=tls, handshakes=1, handshake_timeout=60)
    with socket.create_connection(listener.address) as slow:
        slow.sendall(a_hello())
        until(listener._handshakes._free.locked)
        waiting = gevent.spawn(secure_greeting, listener.address, client_tls)
        until(lambda: listener._handshakes._in_line == 1)
        gevent.sleep(0.1)
        assert not waiting.ready()
    assert waiting.get(timeout=30) == b"hello"


HELLO_CUT_OFF = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


@pytest.mark.parametrize("said", [b"", HELLO_CUT_OFF], ids=["silent", "half a hello"])
def test_slow_hellos_that_take_all_places_keep_nobody_out(listening, tls, client_tls, said):
    refused = []
    listener = listening(
        tls=tls,
        places=Places(4, 4),
        hello_timeout=60,
        on_refused=lambda _, error: refused.append(str(error)),
    )
    slow = [socket.create_connection(listener.address) for _ in range(20)]
    for sock in slow:
        try:
            sock.sendall(said)
        except OSError:
            # Dropped by then.
            pass
    assert secure_greeting(listener.address, client_tls) == b"hello"
    assert listener.places.dropped >= 16
    for sock in slow:
        sock.close()


def test_a_client_that_ends_no_handshake_makes_room(listening, tls, client_tls, monkeypatch):
    monkeypatch.setattr(handshakes, "GRACE", 0.05)
    refused = []
    listener = listening(
        tls=tls,
        handshakes=4,
        handshake_timeout=60,
        on_refused=lambda _, error: refused.append(str(error)),
    )
    slow = [socket.create_connection(listener.address) for _ in range(20)]
    said = a_hello()

    def drip(sock):
        try:
            # A record of 16 KiB that is never complete: each byte was a sign of life once.
            sock.sendall(said + b"\x17\x03\x03\x40\x00")
            while True:
                sock.sendall(b"\0")
                gevent.sleep(0.02)
        except OSError:
            pass

    dripping = [gevent.spawn(drip, sock) for sock in slow]
    assert secure_greeting(listener.address, client_tls) == b"hello"
    with gevent.Timeout(30):
        while not any("to make room" in message for message in refused):
            gevent.sleep(0.01)
    gevent.killall(dripping)
    for sock in slow:
        sock.close()


def test_a_hello_that_drips_is_over_in_its_time(listening, tls):
    refused = []
    listener = listening(tls=tls, hello_timeout=0.3, on_refused=lambda _, error: refused.append(str(error)))
    said = a_hello()
    with socket.create_connection(listener.address) as sock, gevent.Timeout(30):
        for byte in said * 100:
            try:
                sock.sendall(bytes((byte,)))
            except OSError:
                break
            gevent.sleep(0.02)
    assert refused == ["the ClientHello did not arrive in time"]


def test_a_hello_in_two_pieces_is_let_in(listening, tls, client_tls):
    """As with a key of 1,100 bytes (ML-KEM), which does not fit into one packet."""
    listener = listening(tls=tls)
    sock = socket.create_connection(listener.address)
    hello, answer = ssl.MemoryBIO(), ssl.MemoryBIO()
    conversation = client_tls.context().wrap_bio(answer, hello, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        conversation.do_handshake()
    said = hello.read()
    for piece in (said[:3], said[3:7], said[7:200], said[200:]):
        sock.sendall(piece)
        gevent.sleep(0.02)
    with gevent.Timeout(30), sock:
        while True:
            answer.write(sock.recv(10000))
            try:
                conversation.do_handshake()
                break
            except ssl.SSLWantReadError:
                pass
        sock.sendall(hello.read())
        while True:
            try:
                assert conversation.read(5) == b"hello"
                break
            except ssl.SSLWantReadError:
                answer.write(sock.recv(10000))


@pytest.mark.parametrize("abort", [False, True], ids=["closed", "reset"])
def test_a_look_whether_the_port_is_open_is_no_line_and_no_failure(listening, tls, caplog, abort):
    caplog.set_level(logging.INFO)
    refused = []
    listener = listening(tls=tls, on_refused=lambda *what: refused.append(what))
    for _ in range(3):
        with socket.create_connection(listener.address) as sock:
            until(lambda: listener.places.taken)
            if abort:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        until(lambda: not listener.places.taken)
    assert not refused
    assert not caplog.records


def test_a_flood_of_refused_clients_is_a_few_lines_and_a_count(listening, tls, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    listener = listening(tls=tls)
    # However long fifty handshakes take.
    monkeypatch.setattr(listener._seldom, "_seconds", 3600.0)
    count = 50
    for _ in range(count):
        with socket.create_connection(listener.address) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            sock.settimeout(5)
            try:
                while sock.recv(100):
                    pass
            except ConnectionResetError:
                pass
    until(lambda: not listener.places.taken)

    def told():
        return sum(int(record.args[0]) if "left out" in record.msg else 1 for record in caplog.records)

    listener._seldom.close()
    assert told() == count
    assert len(caplog.records) < count / 2


def test_a_burst_of_handshakes_leaves_turns_to_others(listening, tls, monkeypatch):
    monkeypatch.setattr(handshakes, "SLICE", 1e-9)
    listener = listening(tls=tls)
    said = a_hello()
    clients = [socket.create_connection(listener.address) for _ in range(40)]
    until(lambda: listener.places.taken == len(clients))
    for client in clients:
        client._sock.send(said)  # while no greenlet gets a turn
    turns = 0
    with gevent.Timeout(30):
        for client in clients:
            while not client_has_an_answer(client):
                gevent.sleep(1e-6)
                turns += 1
    assert turns > len(clients) / 2
    for client in clients:
        client.close()


def test_a_handshake_that_was_begun_is_done_before_others_begin(listening, tls, client_tls, monkeypatch):
    """Else all of a crowd that is too large for its time would be late together."""
    monkeypatch.setattr(handshakes, "SLICE", 1e-9)
    begun, done = [], []

    def counted(sock):
        step = raw_handshake(sock)

        def take():
            if sock not in begun:
                begun.append(sock)
            step()

        return take

    monkeypatch.setattr(handshakes, "raw_handshake", counted)
    listener = listening(lambda sock, peer: done.append(len(begun)), tls=tls)
    with monkeypatch.context() as held:
        held.setattr(listener._handshakes, "_hand_out", lambda: None)
        crowd = [gevent.spawn(secure_greeting, listener.address, client_tls) for _ in range(30)]
        until(lambda: len(listener._handshakes._queue) == 30)
    listener._handshakes._next_turn.start(listener._handshakes._hand_out)
    gevent.joinall(crowd, timeout=30)
    assert len(done) == len(begun) == 30
    assert done[0] < 15


def client_has_an_answer(client):
    try:
        return client._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return False


def test_a_place_is_given_back_however_a_handshake_ends(listening, tls, client_tls):
    listener = listening(tls=tls, handshakes=1)
    for _ in range(3):
        with socket.create_connection(listener.address) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            sock.settimeout(5)
            try:
                while sock.recv(100):
                    pass
            except ConnectionResetError:
                pass
    assert secure_greeting(listener.address, client_tls) == b"hello"


def test_a_refused_handshake_is_told_in_one_line_without_a_traceback(listening, tls, caplog):
    caplog.set_level(logging.INFO)
    listener = listening(tls=tls)
    with socket.create_connection(listener.address) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        until(lambda: caplog.records)
        answer = b""
        while more := sock.recv(1000):
            answer += more
    head, _, words = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"Content-Length: %d\r\n" % len(words) in head
    assert words == b"this port speaks TLS: https:// (wss:// for an agent), not http://\n"
    (record,) = caplog.records
    assert "plain HTTP was spoken to a TLS port" in record.getMessage()
    assert record.levelno == logging.INFO
    assert record.exc_info is None


def test_a_changed_certificate_is_used_at_the_next_connection(listening, volume, pki):
    import trustme

    authorities = [trustme.CA(), trustme.CA()]

    def publish(authority):
        leaf = authority.issue_cert("localhost")
        volume.publish(crt=leaf.cert_chain_pems[0].bytes(), key=leaf.private_key_pem.bytes())

    publish(authorities[0])
    listener = listening(tls=ServerTls(volume.path("crt"), volume.path("key")))
    for authority in authorities:
        publish(authority)
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        with handshake_client(socket.create_connection(listener.address), trusting, "localhost", 5) as sock:
            assert sock.recv(5) == b"hello"
