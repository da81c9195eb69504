"""Crowds that come and go at odd moments, beside an API that keeps no rule: nobody gets another's answer.

Each answer says which request it answers, and what the API says unasked says so too. It says it at any time,
but never once the next request is there: what crosses with that is its answer for everybody on the way. And
so it is for the client whose connection to the API it is at that time, whose next request may be on its way.
"""

import gc
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from socket import MSG_PEEK
from time import monotonic
from typing import Any

import gevent
import pytest
from gevent.lock import Semaphore

from argotun.agent.forwarder import Forwarder
from argotun.agent.leg import Leg
from argotun.agent.upstream import Upstream
from tests import leaks
from tests.raw_websocket import Listening
from tests.rig import Api, Peer, Rig, until
from tests.v2_peers import CLOSE, CONNECT, DATA, ERROR, WINDOW, V2Server, frame

NUMBER = re.compile(rb"X-Number: (\S+)\r\n")
TARGET = re.compile(rb"([A-Z]+) \S*/own/(\d+)")

ANSWERS = 200
"""That a crowd hears before it goes: some two seconds' worth on a machine with nothing else to do."""

LIMIT = 120.0
"""Seconds that those may take on one that has."""

KEPT = 3
"""So few connections are kept that they are soon taken, and soon too many."""


def answer(random: Random, number: bytes, method: bytes) -> tuple[bytes, bool]:
    """An answer to this request, and whether the connection may go on behind it."""
    body = (number + b";") * random.choice([1, 3, 900, 9000])
    head = b"HTTP/1.1 200 OK\r\nX-Number: %b\r\n" % number
    sized = head + b"Content-Length: %d\r\n\r\n" % len(body)
    if method == b"HEAD":
        return sized, True
    kind = random.choice(["sized", "sized", "chunked", "none", "not modified", "interim", "until", "close"])
    if kind == "chunked":
        cut = random.randrange(1, len(body))
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:cut], body[cut:]))
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n", True
    if kind == "none":
        return b"HTTP/1.1 204 No Content\r\nX-Number: %b\r\n\r\n" % number, True
    if kind == "not modified":
        return b"HTTP/1.1 304 Not Modified\r\nX-Number: %b\r\nContent-Length: 7\r\n\r\n" % number, True
    if kind == "interim":
        return b"HTTP/1.1 103 Early Hints\r\n\r\n" + sized + body, True
    if kind == "until":
        return head + b"\r\n" + body, False
    if kind == "close":
        return head + b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body), False
    return sized + body, True


UNASKED_NUMBER = b"unasked"
UNASKED = b"HTTP/1.1 200 OK\r\nX-Number: unasked\r\nContent-Length: 7\r\n\r\nunasked"


class Adversary:
    """The API. `faults` are rules that the agent has broken, `posts` the numbers of those that came."""

    def __init__(self, random: Random) -> None:
        self.faults: list[str] = []
        self.posts: list[bytes] = []
        self.asked = 0
        self._random = random

    def script(self, peer: Peer) -> None:
        """One connection."""
        random = self._random
        rest: bytes | None = None
        while True:
            head = peer.head()
            found = TARGET.match(head)
            assert found is not None
            method, number = found.groups()
            self.asked += 1
            if b"/secrets" in head:
                self.faults.append("a request came that the policy refuses")
            if method == b"POST":
                self.posts.append(number)
                peer.read(2)
            if rest is not None:
                # The end of what nobody asked for, where it was only begun before this request.
                peer.below(rest)
                return
            end = random.random()
            if end < 0.04:
                return
            if end < 0.06:
                peer.abort()
                return
            if end < 0.09:
                peer.rest()
                return
            said, goes_on = answer(random, number, method)
            if end < 0.12:
                peer.send(said[: random.randrange(len(said))])
                return
            self._in_pieces(peer, said)
            if not goes_on:
                return
            going, rest = self._afterwards(peer)
            if not going:
                return

    def _in_pieces(self, peer: Peer, said: bytes) -> None:
        random = self._random
        for _ in range(random.choice([0, 0, 0, 1, 3])):
            cut = random.choice([1, len(said) - 1, random.randrange(len(said) + 1)])
            peer.send(said[:cut])
            said = said[cut:]
            self._while(random.choice([0, 0, 0.001, 0.004]))
            if not said:
                return
        if self._has_come(peer):
            self.faults.append("a request came before the answer to the one before it had ended")
        peer.send(said)

    def _afterwards(self, peer: Peer) -> tuple[bool, bytes | None]:
        """Do something between two requests: whether to go on, and the end of what was begun unasked."""
        random = self._random
        what = random.random()
        if what < 0.6:
            return True, None
        self._while(random.choice([0, 0, 0.001, 0.004]))
        if self._has_come(peer):
            return True, None
        if what < 0.66:
            peer.send(UNASKED)
        elif what < 0.7:
            peer.send(UNASKED[: random.randrange(1, len(UNASKED))])
        elif what < 0.78 and hasattr(peer.sock, "_sslobj"):
            record = peer.record(UNASKED)
            cut = random.randrange(1, len(record))
            peer.below(record[:cut])
            return True, record[cut:]
        elif what < 0.84:
            peer.finish()
            peer.rest()
            return False, None
        elif what < 0.88:
            peer.abort()
            return False, None
        elif what < 0.92:
            return False, None
        elif what < 0.95:
            peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            return True, None
        else:
            return True, None
        return True, b""

    def _has_come(self, peer: Peer) -> bytes:
        """Whether the agent has said something that was not read yet."""
        if peer.buffer:
            return peer.buffer
        with suppress(OSError):
            data: bytes = peer.sock._sock.recv(1, MSG_PEEK)
            return data
        return b""

    @staticmethod
    def _while(seconds: float) -> None:
        gevent.sleep(seconds)


def judge(said: bytes, asked: list[bytes], who: str) -> None:
    """What came as an answer is that to these requests, in this order."""
    left = iter(asked)
    for place, number in enumerate(NUMBER.findall(said)):
        own = next(left) if number == UNASKED_NUMBER and place else number in left
        assert own, f"{who} asked {asked} and got {NUMBER.findall(said)}"


def request(random: Random, number: int) -> bytes:
    """A request with this number, mostly a GET; some of them the policy refuses."""
    method = random.choice(["GET"] * 12 + ["HEAD", "POST"])
    body = "Content-Length: 2\r\n\r\nhi" if method == "POST" else "\r\n"
    refused = "/api/v1/secrets?from=" if random.random() < 0.1 else ""
    return f"{method} PREFIX{refused}/own/{number} HTTP/1.1\r\nHost: a\r\n{body}".encode()


class Crowd:
    """What all clients of one run share."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.api = Adversary(self.random)
        self.left = 0
        self.seen = 0
        self._number = 0

    def next(self, prefix: bytes) -> tuple[bytes, bytes]:
        """The next request, and its number."""
        self._number += 1
        return request(self.random, self._number).replace(b"PREFIX", prefix), b"%d" % self._number

    def check(self) -> None:
        """Whatever has come, nothing was sent twice that may not be."""
        assert not self.api.faults, self.api.faults
        assert len(self.api.posts) == len(set(self.api.posts)), "a POST was sent twice"


def client(crowd: Crowd, rig: Rig) -> None:
    """One client connection, which may leave at any point."""
    random, peer = crowd.random, rig.client()
    asked: list[bytes] = []
    methods: list[str] = []
    said = b""

    def ask() -> bytes:
        words, number = crowd.next(b"/tunnel/c1")
        asked.append(number)
        methods.append(words.split(b" ")[0].decode())
        return words

    def hear(seconds: float, enough: Callable[[bytes], bool]) -> bool:
        nonlocal said
        try:
            with gevent.Timeout(seconds, False):
                while not enough(peer.buffer):
                    peer._more()
                return True
        except (EOFError, OSError):
            said += peer.buffer
            peer.buffer = b""
            return False
        return False

    try:
        for _ in range(random.choice([1, 1, 1, 2, 4])):
            words = ask()
            if random.random() < 0.1:
                words += ask()
            point = random.random()
            if point < 0.08:
                peer.send(words[: random.randrange(len(words))])
                gevent.sleep(random.choice([0, 0.002]))
                return
            peer.send(words)
            if point < 0.2:
                gevent.sleep(random.choice([0, 0, 0.001, 0.003, 0.01]))
                return
            if not hear(0.3, lambda buffer: b"\r\n\r\n" in buffer) or point < 0.28:
                return
            with gevent.Timeout(0.3, False), suppress(EOFError, OSError):
                answered = peer.response(methods.pop(0))
                said += answered.head + answered.body
                crowd.seen += 1
                if point < 0.5:
                    return
                continue
            return
    except OSError:
        pass
    finally:
        judge(said + peer.buffer, asked, f"client {asked}")
        (peer.abort if random.random() < 0.1 else peer.close)()
        rig._clients.remove(peer)
        crowd.left += 1


@pytest.fixture
def quiet() -> Iterator[None]:
    """No greenlet is there afterwards, and no descriptor that was not there before."""
    until(lambda: not leaks.greenlets(), "the end of what ran before", explain=leaks.greenlets)
    before = leaks.descriptors()
    yield
    until(lambda: not leaks.greenlets(), "the end of everything", explain=leaks.greenlets)
    until(lambda: leaks.descriptors() <= before, "the end of all connections", explain=leaks.descriptors)


def nothing_is_left(rig: Rig) -> None:
    """No stream has a connection, and each that is kept is known to nobody else."""
    agent = rig.agent
    until(lambda: not rig.streams(), "the end of the streams", explain=rig.streams)
    until(lambda: not agent.api.flushing, "the end of the last bytes")
    until(lambda: len(agent._lookout._kept) == len(agent.tunnels), "that nobody looks any more")
    assert len(agent.api.idle) <= KEPT
    until(lambda: only_kept(rig), "the end of connections that are not kept", explain=lambda: rig.api.live)
    # Whoever reads from an API is a bare greenlet, and holds its Upstream.
    kinds = Forwarder, Leg, Upstream
    until(lambda: not held(*kinds), "that nothing holds them", explain=lambda: held(*kinds))


def only_kept(rig: Rig) -> bool:
    """Whether no connection to the API is left beside those that are kept, which are given up here."""
    # The last ones may be kept a turn later than their streams end.
    rig.agent.api.idle.clear()
    return not rig.api.live


def held(*kinds: type) -> list[object]:
    """What there is of these kinds."""
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, kinds)]


def options(folder: Path) -> dict[str, object]:
    """What the agents here are told."""
    policy = folder / "policy.yaml"
    policy.write_text("presets: [no-secrets]")
    return {"idle_conns": KEPT, "policy": str(policy)}


def crowds(seed: int, answers: int, tls: bool, folder: Path, clients: int = 8) -> None:
    """So many clients at a time, until so many answers came; AssertionError where they never do."""
    crowd = Crowd(seed)
    with Rig(Api(crowd.api.script, tls=tls), agent=options(folder)) as rig:
        places = Semaphore(clients)
        failures: list[BaseException] = []

        def one() -> None:
            try:
                client(crowd, rig)
            except BaseException as failure:
                failures.append(failure)
            finally:
                places.release()

        with gevent.Timeout(LIMIT, AssertionError(f"{answers} answers did not come about")):
            while crowd.seen < answers and not failures:
                places.acquire()
                gevent.spawn(one)
        until(lambda: crowd.left and places.counter >= clients - 1, "the end of the clients")
        for failure in failures:
            raise failure
        crowd.check()
        nothing_is_left(rig)


@pytest.mark.parametrize("tls", [True, False], ids=["https", "http"])
@pytest.mark.usefixtures("quiet")
def test_crowds_beside_an_api_without_rules_get_their_own_answers(tls: bool, tmp_path: Path) -> None:
    crowds(7, ANSWERS, tls, tmp_path)


class Streams:
    """A server that has many streams at once, and ends them when it likes."""

    def __init__(self, crowd: Crowd, server: V2Server) -> None:
        self.crowd = crowd
        self.server = server
        self.live: dict[int, list[bytes]] = {}
        self.said: dict[int, bytes] = {}
        self.heard = 0
        self._last = 0

    def read(self) -> None:
        """Take note of what the agent says, until the tunnel ends."""
        with suppress(EOFError, OSError, AssertionError):
            while (got := self.server.receive()) is not None:
                if got.kind == DATA:
                    self.said[got.stream] = self.said.get(got.stream, b"") + got.payload
                    self.heard += 1
                    self.server.ws.send(frame(WINDOW, got.stream, len(got.payload).to_bytes(4, "big")))
                elif got.kind in (CLOSE, ERROR):
                    self.over(got.stream)

    def over(self, stream: int) -> None:
        """Look at what came on a stream that is over."""
        asked = self.live.pop(stream, None)
        said = self.said.pop(stream, b"")
        if asked is not None:
            judge(said, asked, f"stream {stream}")

    def step(self) -> None:
        """One message with anything in it."""
        random = self.crowd.random
        message = b"".join(self._words() for _ in range(random.choice([1, 1, 2, 5])))
        self.server.ws.send(message)

    def _words(self) -> bytes:
        random = self.crowd.random
        if self.live and random.random() < 0.5:
            stream = random.choice(list(self.live))
            if random.random() < 0.7:
                # What it says until it hears of the end is nobody's.
                self.over(stream)
                return frame(random.choice([CLOSE, CLOSE, ERROR]), stream)
            words, number = self.crowd.next(b"")
            self.live[stream].append(number)
            return frame(DATA, stream, words)
        self._last += 1
        stream = self._last
        words, number = self.crowd.next(b"")
        self.live[stream] = [number]
        what = random.random()
        if what < 0.1:
            return frame(CONNECT, stream)
        if what < 0.2:
            return frame(CONNECT, stream) + frame(DATA, stream, words[: random.randrange(1, len(words))])
        if what < 0.4:
            cut = random.randrange(1, len(words))
            pieces = words[:cut], words[cut:]
        elif what < 0.5:
            more, number = self.crowd.next(b"")
            self.live[stream].append(number)
            pieces = words, more
        else:
            pieces = (words,)
        message = frame(CONNECT, stream) + b"".join(frame(DATA, stream, each) for each in pieces)
        if what > 0.95:
            self.over(stream)
            message += frame(CLOSE, stream)
        return message


def odd_servers(seed: int, answers: int, tls: bool, folder: Path) -> None:
    """One server after the other, until so many answers came; sometimes the API's CA is another one then."""
    crowd = Crowd(seed)
    random = crowd.random
    with Listening() as listening, Rig(Api(crowd.api.script, tls=tls), mutual=False, agent=None) as rig:
        url = f"ws://127.0.0.1:{listening.address[1]}/connect"
        agent = rig.make_agent(server=url, max_retry=0.05, **options(folder))
        agent.start()
        ends = monotonic() + LIMIT
        while crowd.seen < answers:
            assert monotonic() < ends, f"{crowd.seen} of {answers} answers came"
            server = V2Server(listening)
            streams = Streams(crowd, server)
            reading: Any = gevent.spawn(streams.read)
            with suppress(OSError):
                for _ in range(random.choice([20, 100, 400])):
                    if reading.ready() or len(streams.live) > 40:
                        break
                    streams.step()
                    gevent.sleep(random.choice([0, 0, 0, 0.001, 0.003, 0.02]))
            (server.ws.abort if random.random() < 0.5 else server.ws.close)()
            reading.join()
            if not reading.successful():
                raise AssertionError from reading.exception
            for stream in list(streams.live):
                streams.over(stream)
            crowd.seen += streams.heard
            crowd.check()
            if random.random() < 0.3:
                with open(rig.authority.path("ca.pem"), "a") as file:
                    file.write("\n")
        until(lambda: not agent.tunnels, "the end of the tunnel")
        nothing_is_left(rig)


@pytest.mark.parametrize("tls", [True, False], ids=["https", "http"])
@pytest.mark.usefixtures("quiet")
def test_streams_that_end_at_any_moment_get_their_own_answers(tls: bool, tmp_path: Path) -> None:
    odd_servers(7, ANSWERS, tls, tmp_path)
