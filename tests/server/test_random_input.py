"""Mangled requests and answers, in random pieces and with random ends: the tunnel outlives them all."""

from random import Random

import gevent
import pytest

from tests import leaks
from tests.rig import Api, Peer, Rig, until

ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\nraw",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
]

REQUESTS = [
    b"GET /tunnel/c1/a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD /tunnel/c1/a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /tunnel/c1/b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /tunnel/c1/b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"GET /tunnel/c1/x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n",
    b"GET /tunnel/c1/x HTTP/1.0\r\n\r\n",
    b"GET /tunnel/nobody/x HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /status HTTP/1.1\r\nHost: a\r\n\r\n",
    b"raw bytes",
]


def mangled(random: Random, words: bytes) -> bytes:
    """As it is, or with a few bytes changed, cut or put in."""
    data = bytearray(words)
    for _ in range(random.choice([0, 0, 0, 1, 2, 3])):
        at = random.randrange(len(data) + 1)
        data[at : at + random.randrange(4)] = random.choice([b"", b"\r\n", b"\0", b"0", b":", b" ", b"\xff"])
    return bytes(data)


def say(random: Random, peer: Peer, vocabulary: list[bytes]) -> None:
    """A few of the words in pieces of random size."""
    data = b"".join(mangled(random, random.choice(vocabulary)) for _ in range(random.choice([1, 1, 2, 3])))
    while data:
        size = random.choice([1, 7, 50, 10_000])
        peer.send(data[:size])
        data = data[size:]
        if random.random() < 0.3:
            gevent.sleep(0)


def listen(peer: Peer) -> None:
    try:
        while True:
            peer._more()
    except (EOFError, OSError):
        pass


@pytest.mark.parametrize("seed", range(3))
def test_random_input_on_both_sides_leaves_the_tunnel_as_it_was(seed: int, impatient: None) -> None:
    random = Random(seed)

    def script(peer: Peer) -> None:
        for _ in range(random.randint(1, 4)):
            if random.random() < 0.9:
                peer.head()
            say(random, peer, ANSWERS)
        getattr(peer, random.choice(["finish", "close", "abort", "rest"]))()

    def client() -> None:
        peer = rig.client()
        listening = gevent.spawn(listen, peer)
        try:
            for _ in range(random.randint(1, 4)):
                say(random, peer, REQUESTS)
                gevent.sleep(random.choice([0, 0.002, 0.02]))
            if random.random() < 0.2:
                peer.finish()
            listening.join(random.choice([0, 0.02]))
        except OSError:
            # The server has closed it, as it should where the words are mangled.
            pass
        listening.kill()
        getattr(peer, random.choice(["close", "close", "abort"]))()

    with Rig(Api(script), server={"reconnect_grace": 0.0}) as rig:
        session, before = rig.session, leaks.greenlets()
        for _ in range(6):
            gevent.joinall([gevent.spawn(client) for _ in range(20)], raise_error=True)
            rig.settle()
            assert rig.session is session
        until(lambda: len(leaks.greenlets()) <= len(before), "the end of every greenlet", leaks.SOON)
