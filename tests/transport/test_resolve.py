"""Names that were known before: what stands in for an answer, for how long, and who says so."""

import logging
import socket
from time import monotonic

import gevent
import pytest
from gevent.event import Event

from argotun.errors import DialError, NameLost
from argotun.transport import resolve as module
from argotun.transport.resolve import Resolver
from tests.rig import until

LONG = 20.0


class Dns:
    """Answers with `now`: addresses, an error to raise, or an Event to wait for and addresses behind it."""

    def __init__(self):
        self.now = []
        self.asked = 0

    def __call__(self, _name, port, **_):
        self.asked += 1
        now = self.now
        if isinstance(now, Event):
            assert now.wait(LONG)
            now = self.now
        if isinstance(now, Exception):
            raise now
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in now]


AWAY = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


@pytest.fixture
def dns(monkeypatch):
    stand_in = Dns()
    monkeypatch.setattr(module._socket, "getaddrinfo", stand_in)
    return stand_in


@pytest.fixture
def name(dns):
    return Resolver("api.example", 443, LONG)


def ask(name, seconds=LONG):
    return [address[4][0] for address in name.addresses(monotonic() + seconds)]


def lines(caplog):
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_a_lookup_that_fails_leaves_the_last_addresses(dns, name, caplog):
    caplog.set_level(logging.INFO)
    dns.now = ["10.0.0.1", "10.0.0.2"]
    assert ask(name) == ["10.0.0.1", "10.0.0.2"]
    assert name.lost == ""
    dns.now = AWAY
    for _ in range(3):
        assert ask(name) == ["10.0.0.1", "10.0.0.2"]
    assert name.lost == "the name cannot be resolved: temporary failure in name resolution"
    assert dns.asked == 4
    dns.now = ["10.0.0.3"]
    assert ask(name) == ["10.0.0.3"]
    assert name.lost == ""
    assert lines(caplog) == [
        (
            "WARNING",
            "api.example:443: the name cannot be resolved: temporary failure in name resolution; "
            "its last addresses are used: 10.0.0.1, 10.0.0.2",
        ),
        ("INFO", "api.example:443: the name is resolved again"),
    ]


def test_an_answer_of_no_address_leaves_the_last_ones(dns, name):
    dns.now = ["10.0.0.1"]
    ask(name)
    dns.now = []
    assert ask(name) == ["10.0.0.1"]
    assert name.lost == "the name has no address"


def test_a_lookup_that_hangs_is_waited_for_a_moment_by_all_together(dns, name, monkeypatch, caplog):
    monkeypatch.setattr(module, "MOMENT", 0.1)
    dns.now = ["10.0.0.1"]
    ask(name)
    answered = dns.now = Event()
    began = monotonic()
    together = [gevent.spawn(ask, name) for _ in range(20)]
    for asking in together:
        assert asking.get() == ["10.0.0.1"]
    assert monotonic() - began >= 0.09
    assert name.lost == "the name was not resolved in time"
    with gevent.Timeout(LONG / 2):
        for _ in range(100):
            assert ask(name) == ["10.0.0.1"]
    assert dns.asked == 2
    assert not lines(caplog)
    dns.now = ["10.0.0.9"]
    answered.set()
    until(lambda: ask(name) == ["10.0.0.9"], "the answer")
    assert not lines(caplog)


def test_a_lookup_without_an_end_fails_and_another_one_begins(dns, caplog):
    name = Resolver("api.example", 443, 0.1)
    dns.now = ["10.0.0.1"]
    ask(name)
    dns.now = Event()
    until(lambda: ask(name) == ["10.0.0.1"] and dns.asked == 3, "the next lookup")
    assert [level for level, _ in lines(caplog)] == ["WARNING"]
    dns.now.set()


def test_a_slow_answer_is_waited_for_where_nothing_is_known(dns, name, monkeypatch):
    monkeypatch.setattr(module, "MOMENT", 0.0)
    answered = dns.now = Event()
    asking = gevent.spawn(ask, name)
    until(lambda: dns.asked, "the lookup")
    gevent.sleep(0.05)
    dns.now = ["10.0.0.1"]
    answered.set()
    assert asking.get() == ["10.0.0.1"]


def test_who_gives_up_does_not_end_the_lookup_of_others(dns, name):
    answered = dns.now = Event()
    given_up, killed, patient = (
        gevent.spawn(ask, name, 0.05),
        gevent.spawn(ask, name),
        gevent.spawn(ask, name),
    )
    until(lambda: dns.asked, "the lookup")
    killed.kill()
    with pytest.raises(NameLost, match="not resolved in time"):
        given_up.get()
    dns.now = ["10.0.0.1"]
    answered.set()
    assert patient.get() == ["10.0.0.1"]
    assert dns.asked == 1


def test_a_name_that_was_never_known_is_lost_and_no_line(dns, name, caplog):
    dns.now = AWAY
    with pytest.raises(NameLost, match=r"cannot connect to api\.example:443: the name cannot be resolved"):
        ask(name)
    assert not lines(caplog)


def test_an_address_is_asked_of_nobody(dns):
    for literal, address in (("10.0.0.1", "10.0.0.1"), ("[2001:db8::1]", "2001:db8::1")):
        try:
            assert ask(Resolver(literal, 443, LONG)) == [address]
        except DialError:
            pytest.skip("needs IPv6")
    assert dns.asked == 0
