"""Proxies: what is asked of one, and every way in which it can refuse."""

import base64
import logging

import gevent
import pytest
from gevent.event import Event

from argotun import __version__
from argotun.config.network import parse_proxy
from argotun.config.proxies import Proxy
from argotun.errors import DialError, HandshakeError
from argotun.transport import proxy as module
from argotun.transport.tls import ClientTls, ServerTls, handshake_client, handshake_server
from bench.ports import held
from tests.transport.dialling import dial_through

SECRET = "pa:ss@wörd"
CREDENTIALS = "user:pa%3Ass%40w%C3%B6rd"


@pytest.fixture
def asked(serve, read_head):
    """Start a proxy that answers with `data`, or does `data(sock)`; `requests` is what it was asked."""
    requests = []

    def start(data, url="http://{}:{}"):
        def script(sock):
            requests.append(read_head(sock))
            if callable(data):
                data(sock)
            else:
                sock.sendall(data)
                sock.recv(1)

        return parse_proxy(url.format(*serve(script)))

    start.requests = requests
    return start


def relay(target):
    """What a proxy does that works: connect and copy."""

    def run(sock):
        from gevent.socket import create_connection

        with create_connection(target) as onward:
            sock.sendall(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
            back = gevent.spawn(copy, onward, sock)
            copy(sock, onward)
            back.join()

    return run


def copy(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(1)
    except OSError:
        pass


def test_a_connection_goes_through_the_proxy(asked, serve):
    echo = serve(lambda sock: sock.sendall(sock.recv(100).upper()))
    with dial_through("target.example", 8443, 5, asked(relay(echo))) as sock:
        sock.sendall(b"hello")
        assert sock.recv(5) == b"HELLO"
        assert sock.gettimeout() is None
    where = "target.example:8443"
    head = f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\nUser-Agent: argotun/{__version__}\r\n\r\n"
    assert asked.requests == [head.encode()]


def test_credentials_are_sent_decoded(asked, serve):
    echo = serve(lambda sock: sock.sendall(b"x"))
    dial_through("h.example", 1, 5, asked(relay(echo), f"http://{CREDENTIALS}@{{}}:{{}}")).close()
    line = next(
        line for line in asked.requests[0].split(b"\r\n") if line.startswith(b"Proxy-Authorization: Basic ")
    )
    assert base64.b64decode(line.split()[2]).decode() == f"user:{SECRET}"


def test_an_ipv6_target_is_asked_for_in_brackets(asked, serve):
    echo = serve(lambda sock: sock.sendall(b"x"))
    for host in ("2001:db8::1", "[2001:db8::1]"):
        dial_through(host, 443, 5, asked(relay(echo))).close()
    assert all(request.startswith(b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\n") for request in asked.requests)


REFUSALS = {
    407: "wants user and password",
    401: "wants user and password",
    403: "does not allow this address",
    502: "cannot reach the address",
    503: "cannot reach the address",
    504: "got no answer from the address",
    500: "refused to connect",
    302: "refused to connect",
}


@pytest.mark.parametrize("status", REFUSALS)
def test_a_refusal_tells_its_status_in_words(asked, status):
    proxy = asked(b"HTTP/1.1 %d Because\r\nContent-Length: 11\r\n\r\nsome reason" % status)
    with pytest.raises(HandshakeError) as caught:
        dial_through("h.example", 443, 5, proxy)
    assert caught.value.status == status
    assert REFUSALS[status] in str(caught.value)
    assert f"h.example:443 ({status} Because): some reason" in str(caught.value)


@pytest.mark.parametrize(
    ("challenge", "words"),
    [
        (b"Basic realm=x", "does not accept the user and password"),
        (
            b'Digest realm="Basic, or not", nonce="x", Basic realm="y"',
            "does not accept the user and password",
        ),
        (b"", "does not accept the user and password"),
        (
            b"Negotiate\r\nProxy-Authenticate: NTLM",
            "credentials by Negotiate or NTLM, and only Basic is known",
        ),
        (b'digest realm="a, basic"', "credentials by Digest, and only Basic is known"),
    ],
)
def test_a_proxy_that_wants_other_credentials_says_which(asked, challenge, words):
    answer = b"HTTP/1.1 407 No\r\nProxy-Authenticate: " + challenge + b"\r\n\r\n"
    with pytest.raises(HandshakeError, match=words):
        dial_through("h.example", 443, 5, asked(answer, f"http://{CREDENTIALS}@{{}}:{{}}"))


@pytest.mark.parametrize("secret", [SECRET, "pa:ss@w", base64.b64encode(f"user:{SECRET}".encode()).decode()])
@pytest.mark.parametrize(
    "answer", ["HTTP/1.1 407 No\r\nContent-Length: 99\r\n\r\nwrong: {}", "HTTP/1.1 407 {}\r\n\r\n", "{}"]
)
def test_a_proxy_that_repeats_the_credentials_is_not_quoted(asked, secret, answer):
    data = answer.format(secret).encode()
    with pytest.raises(HandshakeError, match="repeating the credentials") as caught:
        dial_through(
            "h.example", 443, 5, asked(lambda sock: sock.sendall(data), f"http://{CREDENTIALS}@{{}}:{{}}")
        )
    assert caught.value.status == (407 if "407" in answer else None)
    assert "pa:ss" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_credentials_that_are_no_utf_8_are_sent_as_they_are(asked, serve):
    echo = serve(lambda sock: sock.sendall(b"x"))
    dial_through("h.example", 1, 5, asked(relay(echo), "http://us%FFer:p%E9w@{}:{}")).close()
    encoded = base64.b64encode(b"us\xffer:p\xe9w")
    assert b"Proxy-Authorization: Basic " + encoded + b"\r\n" in asked.requests[0]


GARBAGE = {
    "nothing at all": (lambda sock: sock.close(), "without an answer"),
    "another protocol": (b"SSH-2.0-OpenSSH\r\n", "did not answer in HTTP/1.1"),
    "SOCKS": (b"\x05\xff", "did not answer in HTTP/1.1"),
    "half a head": (
        lambda sock: (sock.sendall(b"HTTP/1.1 200"), sock.close()),
        "in the middle of its answer",
    ),
    "a head without an end": (
        lambda sock: sock.sendall(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 9999),
        "did not answer in HTTP/1.1",
    ),
    "a malformed header": (b"HTTP/1.1 200 OK\r\n: x\r\n\r\n", "header field without a name"),
    "bytes behind the answer": (b"HTTP/1.1 200 OK\r\n\r\nsurprise", "bytes of its own"),
}


@pytest.mark.parametrize(("answer", "words"), GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_told(asked, answer, words):
    with pytest.raises(HandshakeError, match=words):
        dial_through("h.example", 443, 5, asked(answer))


def test_a_silent_proxy_is_given_up(asked):
    with pytest.raises(HandshakeError, match="the proxy did not answer in time"):
        dial_through("h.example", 443, 0.2, asked(lambda sock: sock.recv(1)))


def test_a_proxy_that_dribbles_is_given_up(asked):
    def dribble(sock):
        sock.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            sock.sendall(b"A: b\r\n")
            gevent.sleep(0.02)

    with pytest.raises(HandshakeError, match="in time"):
        dial_through("h.example", 443, 0.3, asked(dribble))


def test_a_proxy_that_is_not_there_is_told(serve):
    with held() as port, pytest.raises(DialError, match=r"cannot connect to .*connection refused"):
        dial_through("h.example", 443, 5, Proxy(*port.getsockname()))


@pytest.mark.parametrize("host", ["a\r\nX: y", "a b", "é"])
def test_a_host_cannot_add_to_the_request(asked, host):
    with pytest.raises(HandshakeError, match="not a name"):
        dial_through(host, 443, 5, asked(b"HTTP/1.1 200 OK\r\n\r\n"))
    assert not asked.requests or asked.requests == [b""]


def test_credentials_are_in_no_message_and_no_repr(asked, caplog):
    caplog.set_level(logging.DEBUG)
    proxy = asked(b"HTTP/1.1 407 No\r\n\r\n", f"http://{CREDENTIALS}@{{}}:{{}}")
    with pytest.raises(HandshakeError) as refused:
        dial_through("h.example", 443, 5, proxy)
    shown = "".join(map(repr, (proxy, refused.value))) + str(proxy) + caplog.text
    encoded = proxy.authorization.split()[1]
    for secret in (SECRET, CREDENTIALS, "pa%3A", encoded):
        assert secret not in shown


# https:// proxies


@pytest.fixture
def tls_proxy(serve, read_head, pki, monkeypatch):
    """A proxy behind TLS in front of `target`."""
    monkeypatch.setattr(module, "ClientTls", lambda: ClientTls(pki.ca))

    def start(target):
        def script(sock):
            with handshake_server(sock, ServerTls(pki.cert, pki.key).context(), 5) as tls:
                read_head(tls)
                relay(target)(tls)

        _, port = serve(script)
        return parse_proxy(f"https://localhost:{port}")

    return start


def test_tls_runs_through_a_proxy_behind_tls(tls_proxy, serve, pki):
    body = bytes(range(256)) * 8192

    def echo(sock):
        with handshake_server(sock, ServerTls(pki.cert, pki.key).context(), 5) as tls:
            while data := tls.recv(65536):
                tls.sendall(data)

    sock = dial_through("target.example", 443, 5, tls_proxy(serve(echo)))
    with handshake_client(sock, ClientTls(pki.ca).context(), "localhost", 5) as tls:
        sending = gevent.spawn(tls.sendall, body)
        received = b""
        while len(received) < len(body):
            received += tls.recv(65536)
        sending.get()
    assert received == body


def test_the_end_of_either_side_goes_through_a_proxy_behind_tls(tls_proxy, serve):
    seen = []
    target = serve(lambda sock: (sock.sendall(b"bye"), sock.shutdown(1), seen.append(sock.recv(10))))
    with dial_through("target.example", 443, 5, tls_proxy(target)) as sock:
        assert sock.recv(10) == b"bye"
        assert sock.recv(10) == b""
    with gevent.Timeout(5):
        while not seen:
            gevent.sleep(0.01)
    assert seen == [b""]


def test_a_stalled_proxy_behind_tls_does_not_hold_what_is_closed(serve, read_head, pki, monkeypatch):
    """The one who writes to it learns nothing from the end of the other side."""
    monkeypatch.setattr(module, "ClientTls", lambda: ClientTls(pki.ca))
    monkeypatch.setattr(module, "_STALL", 0.3)
    made = []
    pairs = module.socketpair
    monkeypatch.setattr(module, "socketpair", lambda: made.extend(pairs()) or made)
    over = Event()

    def script(sock):
        with handshake_server(sock, ServerTls(pki.cert, pki.key).context(), 5) as tls:
            read_head(tls)
            tls.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            over.wait()

    _, port = serve(script)
    sock = dial_through("target.example", 443, 5, parse_proxy(f"https://localhost:{port}"))
    inner, _ = made
    sock.settimeout(0.1)
    with pytest.raises(TimeoutError):
        sock.sendall(bytes(32 << 20))
    sock.close()
    while inner.fileno() != -1:
        gevent.sleep(0.01)
    over.set()


def test_a_proxy_with_an_untrusted_certificate_is_refused(serve, pki):
    def script(sock):
        with pytest.raises(HandshakeError):
            handshake_server(sock, ServerTls(pki.cert, pki.key).context(), 5)

    _, port = serve(script)
    with pytest.raises(HandshakeError, match=r"the proxy: TLS handshake: .*not among the CA certificates"):
        dial_through("target.example", 443, 5, Proxy("localhost", port, tls=True))
