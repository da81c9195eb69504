"""Servers that find each other by the addresses of a name while Redis is away, and who may not use that."""

import logging
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, Self

import gevent
import pytest
from gevent import socket
from gevent.server import StreamServer

from argotun.config.network import parse_registry
from argotun.replicas.directory import SILENCE, Directory
from argotun.server import balance, membership, seeds
from argotun.server.app import Server
from argotun.server.balance import Balance
from argotun.server.links import Link, hello
from argotun.server.seeds import MOST, Seeds, addresses
from argotun.transport.resolve import Resolver
from bench.ports import free_port
from tests.redis_server import RedisServer
from tests.relay import Relay
from tests.replicas import NAME as PEER
from tests.replicas import Joined
from tests.rig import PATIENCE, Api, Authority, answers_its_own, until

NAME = "replicas.example"


class Dns:
    """What `NAME` stands for: addresses `now`, or an error; all other names are asked of the system."""

    def __init__(self) -> None:
        self.now: list[str] | OSError = []
        self.asked = 0
        self._others = socket.getaddrinfo

    def __call__(self, host: Any, port: Any, *more: Any, **options: Any) -> Any:
        if host != NAME:
            return self._others(host, port, *more, **options)
        self.asked += 1
        if isinstance(self.now, OSError):
            raise self.now
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.now]


class Asked:
    """Who asked at which address, and how often it was considered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.by: list[tuple[str, str]] = []
        self.looks = 0
        ask, is_open = Seeds._ask, Seeds._is_open

        def asks(one: Seeds, address: str) -> str:
            self.by.append((one._links.me, address))
            return ask(one, address)

        def looks(one: Seeds, address: str, who: str) -> bool:
            self.looks += 1
            return is_open(one, address, who)

        monkeypatch.setattr(Seeds, "_ask", asks)
        monkeypatch.setattr(Seeds, "_is_open", looks)

    def more(self, count: int = 30) -> None:
        """Wait until so many more addresses were considered."""
        enough = self.looks + count
        until(lambda: self.looks >= enough, "looks")


class Seeded(Joined):
    """Replicas at 127.0.0.1, 127.0.0.2 … and one port, which the name has from the start."""

    def __init__(self, url: str, dns: Dns, **options: Any) -> None:
        super().__init__(url, 0, api=Api(answers_its_own), **options)
        self.port = free_port()
        self.dns = dns
        self._peer_options["peer_seeds"] = NAME, self.port

    def __enter__(self) -> Self:
        self.api.start(self.authority)
        return self

    def place(self, number: int) -> str:
        """Where a replica is."""
        return f"127.0.0.{number + 1}"

    def _start(self, number: int, directory: Any = None) -> Server:
        self._peer_options["peer_addr"] = self.place(number), self.port
        return super()._start(number, directory)

    def add(self, count: int = 1, **options: Any) -> list[int]:
        """Start so many more, with these options, and have the name say where they are."""
        self._peer_options |= options
        for _ in range(count):
            number = len(self.servers)
            self.ids.append(f"{number + 1:016x}")
            self.servers.append(self._start(number))
            self._count = number + 1
        self.server = self.servers[0]
        self.dns.now = [self.place(number) for number in range(self._count)]
        return list(range(self._count - count, self._count))

    def met(self, *numbers: int) -> None:
        """Wait until each of these replicas has a link to each other one of them."""
        until(lambda: all(self.meets(number) == len(numbers) - 1 for number in numbers), "the links")

    def directory(self, number: int) -> Directory:
        found = self.membership(self.servers[number]).directory
        assert isinstance(found, Directory)
        return found

    def seeds(self, number: int) -> dict[str, bool]:
        """What /status says of each link: whether a seed alone has named its replica."""
        return {link["replica"]: link["seed"] for link in self.get_from(number, "/status").json()["links"]}


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Dns:
    dns = Dns()
    monkeypatch.setattr(socket, "getaddrinfo", dns)
    return dns


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


@pytest.fixture
def replicas(
    redis_server: RedisServer, dns: Dns, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Seeded]:
    """None yet; those that come look around at once."""
    monkeypatch.setattr(seeds, "AWAY", 0.1)
    monkeypatch.setattr(seeds, "LOOK", 0.05)
    monkeypatch.setattr(seeds, "LONGEST_PAUSE", 0.2)
    with Seeded(redis_server.url, dns) as replicas:
        yield replicas


def up(link: Link) -> bool:
    return link.up


# ── finding each other ─────────────────────────────────────────────────────────────────────────


def test_replicas_that_start_while_the_registry_is_away_serve_each_others_agents(
    replicas: Seeded, redis_server: RedisServer
) -> None:
    redis_server.kill()
    one, two, three = replicas.add(3)
    replicas.met(one, two, three)
    replicas.agent_at(two, known=False)
    assert replicas.get_from(one).status == 200
    assert replicas.get_from(three).status == 200


def test_a_new_replica_and_old_ones_find_each_other(replicas: Seeded, redis_server: RedisServer) -> None:
    old, other = replicas.add(2)
    replicas.met(old, other)
    replicas.agent_at(old)
    redis_server.kill()
    [new] = replicas.add()
    replicas.met(old, other, new)
    assert replicas.get_from(new).status == 200
    # Who is known by the registry stays known by it.
    assert replicas.seeds(old) == {replicas.ids[other]: False, replicas.ids[new]: True}
    assert replicas.seeds(new) == {replicas.ids[old]: True, replicas.ids[other]: True}


def test_an_agent_of_a_new_replica_is_found_by_an_old_one(
    replicas: Seeded, redis_server: RedisServer
) -> None:
    [old] = replicas.add()
    until(lambda: replicas.directory(old).follows(monotonic()), "the registry")
    redis_server.kill()
    [new] = replicas.add()
    replicas.agent_at(new, known=False)
    replicas.met(old, new)
    assert replicas.get_from(old).status == 200


def test_a_process_at_the_address_of_one_that_has_died_is_found(
    replicas: Seeded, redis_server: RedisServer
) -> None:
    """As a container that is started anew in its pod; nobody has said that the old one has ended."""
    old, dead = replicas.add(2)
    replicas.met(old, dead)
    redis_server.kill()
    replicas.servers[dead].stop()
    until(lambda: not any(map(up, replicas.links(old))), "the end of the link")
    replicas.ids[dead] = "c" * 16
    replicas.servers[dead] = replicas._start(dead)
    replicas.agent_at(dead, known=False)
    replicas.met(old, dead)
    assert replicas.get_from(old).status == 200
    lines = replicas.get_from(old, "/metrics").body.decode().splitlines()
    up_there = f'argotun_peer_up{{peer="{replicas.place(dead)}:{replicas.port}"}} '
    assert [line for line in lines if line.startswith(up_there)] == [f"{up_there}1.0"]


def test_no_address_is_asked_again_once_all_have_met(
    replicas: Seeded, redis_server: RedisServer, asked: Asked
) -> None:
    """Neither its own, where its port says so."""
    redis_server.kill()
    numbers = replicas.add(3)
    replicas.met(*numbers)
    for me in replicas.ids:
        until(lambda me=me: len({at for by, at in asked.by if by == me}) == 3, "each was asked")  # type: ignore[misc]
    asked.more()
    before = len(asked.by)
    asked.more(60)
    assert len(asked.by) == before


def test_a_replica_that_has_two_addresses_has_one_link(
    replicas: Seeded, redis_server: RedisServer, asked: Asked
) -> None:
    """As one of IPv4 and IPv6."""
    redis_server.kill()
    one, two = replicas.add(2)
    with Relay((replicas.place(two), replicas.port), port=replicas.port, host=replicas.place(8)):
        replicas.dns.now = [*replicas.dns.now, replicas.place(8)]
        replicas.met(one, two)
        for me in replicas.ids:
            question = me, f"{replicas.place(8)}:{replicas.port}"
            until(lambda question=question: question in asked.by, "each was asked")  # type: ignore[misc]
        asked.more()
        before = len(asked.by)
        asked.more(60)
        assert len(asked.by) == before
        assert len(list(replicas.links(one))) == 1


def test_an_address_without_a_replica_is_asked_again_until_the_name_has_it_no_longer(
    replicas: Seeded, redis_server: RedisServer, asked: Asked, dns: Dns
) -> None:
    redis_server.kill()
    [one] = replicas.add()
    nobody = f"{replicas.place(7)}:{replicas.port}"
    dns.now = [replicas.place(one), replicas.place(7)]
    until(lambda: [at for _, at in asked.by].count(nobody) > 3, "several questions")
    dns.now = [replicas.place(one)]
    kept = replicas.membership(replicas.servers[one])._seeds
    assert kept is not None
    until(lambda: list(kept._kept) == [f"{replicas.place(one)}:{replicas.port}"], "the end of an address")
    before = len(asked.by)
    asked.more()
    assert asked.by[before:] == []


def test_a_replica_that_was_found_and_ends_is_forgotten_and_found_again(
    replicas: Seeded, redis_server: RedisServer
) -> None:
    redis_server.kill()
    one, two = replicas.add(2)
    replicas.met(one, two)
    replicas.servers[two].stop()
    until(lambda: not replicas.directory(one).replicas and not list(replicas.links(one)), "its end")
    replicas.servers[two] = replicas._start(two)
    replicas.met(one, two)


def test_a_replica_whose_link_breaks_is_asked_again_at_once(
    replicas: Seeded, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that the registry has named is dialled again at once."""
    redis_server.kill()
    one, two = replicas.add(2)
    replicas.met(one, two)
    replicas.agent_at(two, known=False)
    assert replicas.get_from(one).status == 200
    monkeypatch.setattr(seeds, "LONGEST_PAUSE", 3600.0)
    # What waits already has waited for less.
    gevent.sleep(0.5)
    [link] = replicas.links(one)
    assert link.tunnel is not None
    link.tunnel.end("a test")
    assert replicas.get_from(one).status == 200


def test_a_name_that_is_not_resolved_is_said_once_and_resolved_later(
    replicas: Seeded, redis_server: RedisServer, dns: Dns, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.kill()
    dns.now = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    config = replicas._peer_options
    config["peer_addr"] = replicas.place(0), replicas.port
    replicas.ids.append("1" * 16)
    replicas.servers.append(replicas._start(0))
    replicas.server = replicas.servers[0]
    replicas._count = 1
    before = dns.asked
    until(lambda: dns.asked > before + 3, "several lookups")
    said = [record for record in caplog.records if "cannot be looked for" in record.getMessage()]
    assert [record.levelno for record in said] == [logging.WARNING]
    replicas.add()
    replicas.met(0, 1)


# ── the registry ───────────────────────────────────────────────────────────────────────────────


def test_no_name_is_resolved_while_the_registry_is_current(replicas: Seeded, dns: Dns, asked: Asked) -> None:
    dns.now = []
    one, two = replicas.add(2)
    replicas.met(one, two)
    looked: list[float] = []

    def follows(now: float) -> bool:
        looked.append(now)
        return True

    for number in (one, two):
        replicas.directory(number).follows = follows  # type: ignore[method-assign]
    until(lambda: len(looked) > 10, "looks")
    resolved, before = dns.asked, len(asked.by)
    looked.clear()
    until(lambda: len(looked) > 30, "looks")
    assert dns.asked == resolved
    assert len(asked.by) == before


def test_a_registry_that_answers_when_a_replica_starts_keeps_it_from_dns(
    redis_server: RedisServer, dns: Dns
) -> None:
    with Seeded(redis_server.url, dns) as replicas:
        replicas.add(2)
        replicas.met(0, 1)
        until(lambda: all(replicas.directory(each).follows(monotonic()) for each in (0, 1)), "the registry")
    assert dns.asked == 0


def test_links_stay_as_they_are_when_the_registry_is_back(
    replicas: Seeded, redis_server: RedisServer, asked: Asked
) -> None:
    [old] = replicas.add()
    until(lambda: replicas.directory(old).follows(monotonic()), "the registry")
    redis_server.kill()
    one, two = replicas.add(2)
    replicas.met(old, one, two)
    replicas.agent_at(one, known=False)
    assert replicas.get_from(two).status == 200
    tunnels = {link.tunnel for number in (old, one, two) for link in replicas.links(number)}
    redis_server.start()
    until(lambda: all(replicas.directory(each).follows(monotonic()) for each in (old, one, two)), "it")
    for number in (old, one, two):
        until(lambda at=number: not any(replicas.seeds(at).values()), "the registry's word")  # type: ignore[misc]
    replicas.known("c1", one)
    assert {link.tunnel for number in (old, one, two) for link in replicas.links(number)} == tunnels
    assert None not in tunnels
    for number in (old, one, two):
        # What was only a question has ended.
        port = replicas.membership(replicas.servers[number]).peers
        until(lambda port=port: len(port._links) == 2, "one link from each")  # type: ignore[misc]
    assert replicas.get_from(two).status == 200


def test_a_replica_that_the_registry_does_not_name_stays_while_its_link_is_up(
    replicas: Seeded, redis_server: RedisServer
) -> None:
    """It cannot reach the registry itself."""
    redis_server.kill()
    [one] = replicas.add()
    [cut_off] = replicas.add(registry=parse_registry("redis://127.0.0.1:1"))
    replicas.met(one, cut_off)
    replicas.agent_at(cut_off, known=False)
    assert replicas.get_from(one).status == 200
    redis_server.start()
    table = replicas.directory(one)
    until(lambda: table.follows(monotonic()), "the registry")
    since = monotonic()
    until(lambda: table.heard is not None and table.heard > since + SILENCE, "more than silence")
    assert replicas.seeds(one) == {replicas.ids[cut_off]: True}
    assert replicas.get_from(one).status == 200
    replicas.servers[cut_off].stop()
    until(lambda: not table.replicas, "its end")


def test_agents_of_a_replica_that_the_registry_does_not_name_are_asked_for(
    replicas: Seeded, redis_server: RedisServer
) -> None:
    """Also once the registry is current: of this replica it knows nothing."""
    entries = [{"id": each, "token": f"token-of-agent-{each}", "certNames": ["c1"]} for each in ("c1", "c2")]
    replicas.write_clusters(entries)
    redis_server.kill()
    [one] = replicas.add()
    [cut_off] = replicas.add(registry=parse_registry("redis://127.0.0.1:1"))
    replicas.met(one, cut_off)
    redis_server.start()
    until(lambda: replicas.directory(one).follows(monotonic()), "the registry")
    replicas.agent_at(cut_off, "c2", known=False, token="token-of-agent-c2")
    assert replicas.get_from(one, "/tunnel/c2/api/v1/pods").status == 200
    assert replicas.seeds(one) == {replicas.ids[cut_off]: True}


def test_no_agent_is_asked_to_move_to_a_replica_whose_tunnels_nobody_has_counted(
    replicas: Seeded, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry has not named it: it may have as many, or more."""
    monkeypatch.setattr(balance, "QUIET", 0.1)
    monkeypatch.setattr(membership, "LOOK", 0.02)
    asked: list[int] = []
    look = Balance.look

    def looks(one: Balance, now: float) -> int:
        asked.append(look(one, now))
        return asked[-1]

    clusters = [f"c{number}" for number in range(1, 7)]
    replicas.write_clusters(
        [{"id": each, "token": f"token-of-agent-{each}", "certNames": ["c1"]} for each in clusters]
    )
    redis_server.kill()
    [one] = replicas.add()
    [cut_off] = replicas.add(registry=parse_registry("redis://127.0.0.1:1"))
    replicas.met(one, cut_off)
    for cluster in clusters:
        replicas.agent_at(one, cluster, known=False, token=f"token-of-agent-{cluster}")
    redis_server.start()
    until(lambda: replicas.directory(one).follows(monotonic()), "the registry")
    monkeypatch.setattr(Balance, "look", looks)
    until(lambda: len(asked) > 60, "looks")
    assert replicas.seeds(one) == {replicas.ids[cut_off]: True}
    assert not any(asked)


# ── who may not be found ───────────────────────────────────────────────────────────────────────


@contextmanager
def listening(place: tuple[str, int], serve: Callable[[Any], None]) -> Iterator[None]:
    """Somebody at an address of the name."""

    def handle(sock: Any, _peer: Any) -> None:
        try:
            serve(sock)
        finally:
            sock.close()

    server = StreamServer(place, handle)
    server.start()
    try:
        yield
    finally:
        server.stop()


def test_a_certificate_of_another_ca_gets_nothing(
    replicas: Seeded, redis_server: RedisServer, asked: Asked, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    other = Authority(folder)
    other.issue("peer", PEER)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(other.path("peer.pem"), other.path("peer.key"))
    refused: list[str] = []

    def serve(sock: Any) -> None:
        try:
            with context.wrap_socket(sock, server_side=True) as secured:
                refused.append(f"heard {secured.recv(65536)!r}")
        except OSError as error:
            refused.append(str(error))

    redis_server.kill()
    [one] = replicas.add()
    replicas.dns.now = [replicas.place(one), replicas.place(1)]
    with listening((replicas.place(1), replicas.port), serve):
        until(lambda: len(refused) > 2, "several dials")
        assert replicas.get_from(one).status == 503
    assert all("unknown ca" in why.lower() for why in refused), refused
    assert not replicas.directory(one).replicas


def test_another_installation_is_no_replica_of_this_one(
    replicas: Seeded, redis_server: RedisServer, asked: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    """Its certificates are of the same CA, by mistake."""
    redis_server.kill()
    [one] = replicas.add()
    [other] = replicas.add(registry_prefix="other")
    replicas.agent_at(other, known=False)
    for by, at in ((one, other), (other, one)):
        question = replicas.ids[by], f"{replicas.place(at)}:{replicas.port}"
        until(lambda question=question: asked.by.count(question) > 2, "several questions")  # type: ignore[misc]
        assert not replicas.directory(by).replicas
    assert "another registry prefix" in caplog.text
    assert replicas.get_from(one).status == 503


def lies(replicas: Seeded, number: int, name: str) -> None:
    """A replica says from now on that it is another one."""
    replicas.membership(replicas.servers[number]).peers._ours = hello(name, "argotun")


def test_who_says_that_it_is_a_known_replica_gets_nothing_of_what_is_for_that_one(
    replicas: Seeded, redis_server: RedisServer, asked: Asked
) -> None:
    one, two = replicas.add(2)
    replicas.met(one, two)
    replicas.agent_at(two)
    redis_server.kill()
    [liar] = replicas.add()
    lies(replicas, liar, replicas.ids[two])
    question = replicas.ids[one], f"{replicas.place(liar)}:{replicas.port}"
    until(lambda: question in asked.by, "a question")
    asked.more()
    assert list(replicas.directory(one).replicas) == [replicas.ids[two]]
    assert replicas.directory(one).replicas[replicas.ids[two]].address == f"127.0.0.2:{replicas.port}"
    for _ in range(3):
        assert replicas.get_from(one).status == 200
    assert replicas.servers[two].metrics.cluster("c1").relayed == 3


def test_a_name_that_has_ever_new_addresses_floods_no_log(
    replicas: Seeded,
    redis_server: RedisServer,
    asked: Asked,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who can change it decides how many dials lead nowhere, each time for another reason."""
    redis_server.kill()
    [one] = replicas.add()
    looks = replicas.membership(replicas.servers[one])._seeds
    assert looks is not None
    monkeypatch.setattr(looks._seldom, "_seconds", 3600.0)
    for turn in range(3):
        there = [replicas.place(20 + 20 * turn + number) for number in range(20)]
        replicas.dns.now = [replicas.place(one), *there]
        wanted = {f"{place}:{replicas.port}" for place in there}
        until(lambda wanted=wanted: wanted <= {at for _, at in asked.by}, "each was asked")  # type: ignore[misc]
        asked.more()
    said = [record for record in caplog.records if "no other replica is found there: " in record.getMessage()]
    assert len(said) == 10
    replicas.servers[one].stop()
    assert "more lines like this were left out: no other replica is found there" in caplog.text


@pytest.mark.parametrize("name", ["", "no id", "f" * 17])
def test_who_does_not_say_which_replica_it_is_is_none(
    name: str, replicas: Seeded, redis_server: RedisServer, asked: Asked
) -> None:
    refuses(replicas, redis_server, asked, name)


def test_who_says_that_it_is_the_one_that_asks_is_none(
    replicas: Seeded, redis_server: RedisServer, asked: Asked
) -> None:
    refuses(replicas, redis_server, asked, "0" * 15 + "1")


def refuses(replicas: Seeded, redis_server: RedisServer, asked: Asked, name: str) -> None:
    """The first replica takes the second one, which says this name, for none."""
    redis_server.kill()
    one, liar = replicas.add(2)
    assert replicas.ids[one] == "0" * 15 + "1"
    lies(replicas, liar, name)
    replicas.agent_at(liar, known=False)
    question = replicas.ids[one], f"{replicas.place(liar)}:{replicas.port}"
    until(lambda: asked.by.count(question) > 2, "several questions")
    assert not replicas.directory(one).replicas
    assert replicas.get_from(one).status == 503


# ── the name ───────────────────────────────────────────────────────────────────────────────────


def test_of_too_many_addresses_the_same_ones_are_taken_in_any_order(dns: Dns) -> None:
    dns.now = [f"10.0.{number // 200}.{number % 200}" for number in range(MOST + 50)]
    taken = addresses(Resolver(NAME, 8444, PATIENCE))
    assert len(set(taken)) == MOST
    dns.now.reverse()
    assert addresses(Resolver(NAME, 8444, PATIENCE)) == taken


def test_an_address_that_a_name_has_twice_is_one(dns: Dns) -> None:
    dns.now = ["10.0.0.1", "10.0.0.1"]
    assert addresses(Resolver(NAME, 8444, PATIENCE)) == ["10.0.0.1:8444"]
