"""Names: several addresses, a slow resolver, and one that has lost a name for a while.

A replaced `getaddrinfo` stands in for DNS, at the place where gevent's resolver threads call it; the
sockets, the threads and the waiting are real.
"""

import _socket
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent import get_hub
from gevent.monkey import get_original

from argotun.agent.backoff import NAMELESS, Backoff
from argotun.errors import DialError, NameLost
from argotun.transport.race import STAGGER
from bench.ports import held
from tests.agent.test_ways import proxy
from tests.leaks import greenlets
from tests.rig import PATIENCE, Api, Rig, answers_its_own, until
from tests.transport.dialling import dial

NAME = "tunnel.example"

this_thread = get_original("threading", "get_ident")


class Dns:
    """What is answered for NAME: `lookup(name)` gives addresses, waits or raises; others are looked up."""

    def __init__(self, lookup: Callable[[str], list[tuple[str, int]]]) -> None:
        self.lookup = lookup
        self._others = _socket.getaddrinfo
        self.asked: list[str] = []
        self.threads: set[int] = set()

    def __call__(self, host: Any, *rest: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name != NAME:
            return self._others(host, *rest, **named)
        self.asked.append(name)
        self.threads.add(this_thread())
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (address, number),
            )
            for address, number in self.lookup(name)
        ]


def unknown(name: str) -> list[tuple[str, int]]:
    raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Dns:
    stand_in = Dns(unknown)
    monkeypatch.setattr(_socket, "getaddrinfo", stand_in)
    return stand_in


class Listening:
    """A server that greets whoever connects, at one address of loopback."""

    def __init__(self, host: str, port: int = 0) -> None:
        self.socket = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
        self.address = self.socket.getsockname()[:2]
        self.arrivals: list[float] = []
        self._greenlet = gevent.spawn(self._accept)

    def _accept(self) -> None:
        while True:
            sock, _ = self.socket.accept()
            self.arrivals.append(time.monotonic())
            with sock:
                sock.sendall(b"hello")

    def close(self) -> None:
        self._greenlet.kill()
        self.socket.close()


@pytest.fixture
def listen() -> Iterator[Callable[..., Listening]]:
    opened: list[Listening] = []

    def start(host: str = "127.0.0.1", port: int = 0) -> Listening:
        opened.append(Listening(host, port))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


@pytest.fixture
def deaf() -> Iterator[tuple[str, int]]:
    """An address that neither accepts nor refuses: its backlog is full."""
    with socket.create_server(("127.0.0.3", 0), backlog=0) as listening:
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        yield listening.getsockname()
        for filler in fillers:
            filler.close()


def test_an_ipv6_address_that_does_not_answer_costs_one_stagger(
    dns: Dns, listen: Callable[..., Listening], deaf: tuple[str, int]
) -> None:
    """The resolver's order is kept, the families take turns, and nobody waits for a whole timeout."""
    try:
        refusing = held("::1")
    except OSError:
        pytest.skip("needs IPv6 on loopback")
    good = listen("127.0.0.2")
    dns.lookup = lambda name: [refusing.getsockname()[:2], deaf, good.address, deaf]
    began = time.monotonic()
    with refusing, dial(NAME, 1, PATIENCE) as sock:
        assert sock.getpeername() == good.address
        assert sock.recv(5) == b"hello"
    # ::1 refuses at once, the deaf one has its stagger before the good one is tried beside it.
    assert time.monotonic() - began >= STAGGER - 0.01
    assert len(good.arrivals) == 1


def test_an_address_that_moved_is_found_at_the_next_dial(dns: Dns, listen: Callable[..., Listening]) -> None:
    before, after = listen("127.0.0.2"), listen("127.0.0.4")
    for now in (before, after):
        dns.lookup = lambda name, now=now: [now.address]
        with dial(NAME, 1, PATIENCE) as sock:
            assert sock.getpeername() == now.address
    assert dns.asked == [NAME, NAME]


def test_a_slow_resolver_does_not_delay_other_greenlets(dns: Dns, listen: Callable[..., Listening]) -> None:
    """The hub turns while a thread sits in getaddrinfo, and only then is the thread let go."""
    good, release = listen(), threading_event()

    def slowly(name: str) -> list[tuple[str, int]]:
        assert release.wait(PATIENCE)
        return [good.address]

    dns.lookup = slowly
    dialling = gevent.spawn(dial, NAME, 1, PATIENCE)
    until(lambda: dns.asked, "the lookup")
    for _ in range(100):
        gevent.sleep(0)
    assert not dialling.ready()
    release.set()
    dialling.get(timeout=PATIENCE).close()
    assert this_thread() not in dns.threads


def threading_event() -> Any:
    """An event of real threads: gevent's would not block a resolver's thread."""
    lock = get_original("_thread", "allocate_lock")()
    lock.acquire()

    class Held:
        def wait(self, seconds: float) -> bool:
            taken: bool = lock.acquire(timeout=seconds)
            if taken:
                lock.release()
            return taken

        def set(self) -> None:
            lock.release()

    return Held()


def test_requests_go_on_while_the_agent_waits_for_a_slow_resolver(dns: Dns) -> None:
    """A second agent hangs in its lookup; the first one's tunnel does not notice."""
    release = threading_event()

    def slowly(name: str) -> list[tuple[str, int]]:
        release.wait(PATIENCE)
        return unknown(name)

    with Rig(Api(answers_its_own)) as rig:
        dns.lookup = slowly
        port = rig.server.public_address[1]
        config = rig.agent_config(server=f"wss://{NAME}:{port}/connect")
        hanging = type(rig.agent)(config)
        rig.agents.append(hanging)
        hanging.start()
        until(lambda: NAME in dns.asked, "the lookup")
        client = rig.client()
        for _ in range(20):
            assert rig.ask(client=client).status == 200
        assert dns.asked == [NAME]
        hanging.stop()
        release.set()


def test_an_address_is_dialled_though_every_resolver_thread_hangs(
    dns: Dns, listen: Callable[..., Listening]
) -> None:
    good, release = listen(), threading_event()

    def hang(name: str) -> list[tuple[str, int]]:
        release.wait(PATIENCE)
        return unknown(name)

    dns.lookup = hang
    threads = get_hub().threadpool.maxsize
    waiting = [gevent.spawn(dial, NAME, 1, PATIENCE) for _ in range(threads + 5)]
    try:
        until(lambda: len(dns.asked) == threads, "every thread's lookup")
        with dial(*good.address, PATIENCE) as sock:
            assert sock.recv(5) == b"hello"
        assert len(dns.asked) == threads
    finally:
        release.set()
        gevent.joinall(waiting, timeout=PATIENCE)
    assert all(isinstance(each.exception, DialError) for each in waiting)


def test_lookups_that_were_given_up_leave_no_queue_behind(dns: Dns, listen: Callable[..., Listening]) -> None:
    """Once the name is back, the next dial is not behind those that nobody waits for any more."""
    good, release = listen(), threading_event()
    back: list[bool] = []

    def lookup(name: str) -> list[tuple[str, int]]:
        if not back:
            release.wait(PATIENCE)
        return [good.address]

    dns.lookup = lookup
    threads = get_hub().threadpool.maxsize
    waiting = [gevent.spawn(dial, NAME, 1, 0.2) for _ in range(threads * 3)]
    gevent.joinall(waiting, timeout=PATIENCE)
    assert all(isinstance(each.exception, NameLost) for each in waiting)
    assert len(dns.asked) == threads
    back.append(True)
    release.set()
    dial(NAME, 1, PATIENCE).close()
    assert len(dns.asked) < threads * 2


def test_a_name_that_is_not_there_yet_costs_only_the_time_that_it_is_away(
    dns: Dns, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent says what is wrong once, goes on trying, and comes with its next attempt."""
    with Rig(Api(answers_its_own), mutual=False, agent=None) as rig:
        address = rig.server.public_address
        agent = rig.make_agent(server=f"ws://{NAME}:{address[1]}/connect")
        agent.start()
        until(lambda: len(dns.asked) >= 4, "four attempts while the name is away")
        assert not agent.connected.is_set()
        dns.lookup = lambda name: [address]
        attempts = len(dns.asked)
        until(agent.connected.is_set, "the agent's arrival")
        assert len(dns.asked) == attempts + 1
        until(lambda: len(rig.server.registry) == 1, "the session")
        assert rig.ask().status == 200
    (told,) = warnings(caplog, "cannot be resolved")
    assert f"{NAME}:{address[1]}" in told
    assert "temporary failure in name resolution" in told


def warnings(caplog: pytest.LogCaptureFixture, part: str) -> list[str]:
    """The warnings that have these words in them."""
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    return [line for line in lines if part in line]


def unheard_of(name: str) -> list[tuple[str, int]]:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


Lookup = Callable[[str], list[tuple[str, int]]]


@pytest.fixture(params=[unknown, unheard_of, None], ids=["unknown", "unheard of", "no answer"])
def away(request: pytest.FixtureRequest) -> Iterator[Lookup]:
    """A lookup that fails, or has no end as with servers that are gone."""
    release = threading_event()

    def hangs(name: str) -> list[tuple[str, int]]:
        release.wait(2 * PATIENCE)
        return unknown(name)

    yield request.param or hangs
    release.set()
    # Its line must not be in the log of the next test.
    until(lambda: not any(where.startswith("resolve.py:") for where in greenlets()), "the lookups' end")


def test_an_agent_finds_its_server_again_by_its_last_address(
    dns: Dns, caplog: pytest.LogCaptureFixture, away: Lookup
) -> None:
    with Rig(Api(answers_its_own), mutual=False, agent=None) as rig:
        address = rig.server.public_address
        dns.lookup = lambda name: [address]
        agent = rig.start_agent(server=f"ws://{NAME}:{address[1]}/connect", dial_timeout=2.0)
        dns.lookup = away
        for _ in range(3):
            (session,) = rig.server.registry.all()
            session.tunnel.end("the test cuts the tunnel")
            until(lambda ended=session: rig.server.registry.all() not in ([], [ended]), "the agent's return")
            assert rig.ask().status == 200
        until(lambda: warnings(caplog, "last addresses"), "the lookup's end")
        dns.lookup = lambda name: [address]
        assert agent.connected.is_set()
    (told,) = warnings(caplog, "last addresses")
    assert told.startswith(f"{NAME}:{address[1]}: ")
    assert told.endswith("its last addresses are used: 127.0.0.1")


def test_an_agent_reaches_its_proxy_by_its_last_address(dns: Dns, away: Lookup) -> None:
    with Rig(Api(answers_its_own), mutual=False, agent=None) as rig, proxy() as way:
        dns.lookup = lambda name: [("127.0.0.1", way.port)]
        rig.start_agent(proxy=f"http://{NAME}:{way.port}")
        dns.lookup = away
        (session,) = rig.server.registry.all()
        session.tunnel.end("the test cuts the tunnel")
        until(lambda: rig.server.registry.all() not in ([], [session]), "the agent's return")
        assert len(way.heads) == 2
        assert rig.ask().status == 200


def test_an_agent_waits_less_for_a_name_than_for_a_dead_server(
    dns: Dns, caplog: pytest.LogCaptureFixture
) -> None:
    """However many attempts went before, so that the name's return is noticed soon."""
    with Rig(mutual=False, agent=None) as rig:
        ways = {"name": {}, "proxy": {"proxy": f"http://{NAME}:3128"}}
        for way, options in ways.items():
            agent = rig.make_agent(server=f"ws://{NAME}:1/connect", max_retry=60.0, **options)
            agent.connector._backoff = Backoff(60.0, lambda low, high: high)
            for _ in range(20):
                agent.connector._backoff.delay()
            agent.start()
            until(lambda agent=agent: agent._status()["lastError"], f"the failure by {way}")
            agent.stop()
    waits = [r.fields["retry_seconds"] for r in caplog.records if "cannot be resolved" in r.getMessage()]
    assert waits == [NAMELESS, NAMELESS]


def test_an_api_whose_name_has_vanished_is_asked_at_its_last_address(
    dns: Dns, caplog: pytest.LogCaptureFixture, away: Lookup
) -> None:
    with Rig(Api(answers_its_own), agent=None) as rig:
        there: list[tuple[str, int]] = [("127.0.0.1", rig.api.port)]
        dns.lookup = lambda name: there
        rig.start_agent(target=(NAME, rig.api.port), target_host_name="localhost", dial_timeout=2 * PATIENCE)
        assert rig.ask().status == 200
        dns.lookup = away
        asked = len(dns.asked)
        for _ in range(3):
            assert rig.ask().status == 200
        assert rig.api.connections == 4
        # One that has no end is shared by all, and not yet over.
        lookups = 3 if away in (unknown, unheard_of) else 1
        assert len(dns.asked) == asked + lookups
    assert len(warnings(caplog, "last addresses")) == (lookups > 1)


def test_an_api_whose_name_was_never_known_is_asked_for_again(dns: Dns) -> None:
    """The 503 says so, and client-go tries again; once the name is there requests are served."""
    with Rig(Api(answers_its_own), agent=None) as rig:
        rig.start_agent(target=(NAME, rig.api.port), target_host_name="localhost")
        for _ in range(2):
            refused = rig.ask()
            assert (refused.status, refused.header("retry-after")) == (503, "1")
            assert "the name cannot be resolved" in refused.json()["message"]
        dns.lookup = lambda name: [("127.0.0.1", rig.api.port)]
        assert rig.ask().status == 200


def test_a_vanished_name_leaves_the_tunnel_dialled_by_it_alone(dns: Dns) -> None:
    with Rig(Api(answers_its_own), mutual=False, agent=None) as rig:
        address = rig.server.public_address
        dns.lookup = lambda name: [address]
        agent = rig.start_agent(server=f"ws://{NAME}:{address[1]}/connect")
        (tunnel,) = agent.tunnels
        dns.lookup = unknown
        for _ in range(5):
            assert rig.ask().status == 200
        assert agent.tunnels == [tunnel]
        assert dns.asked == [NAME]


def test_a_proxys_vanished_name_is_not_taken_for_the_servers(dns: Dns) -> None:
    with Rig(mutual=False, agent=None) as rig:
        agent = rig.make_agent(proxy=f"http://user:hunter2@{NAME}:3128")
        agent.start()
        until(lambda: dns.asked, "the lookup")
        until(lambda: agent._status()["lastError"], "the reason")
        said = agent._status()["lastError"]
        assert f"the proxy cannot be reached: cannot connect to {NAME}:3128: the name cannot be" in said
        assert "hunter2" not in said
