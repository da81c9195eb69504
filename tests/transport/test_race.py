"""The race of attempts to connect: another port where one is not heard, in time, one connection kept."""

import errno
import os
import socket
from time import monotonic

import gevent
import pytest

from argotun.errors import DialError
from argotun.transport import race as module
from bench.ports import held
from tests.deaf import Attempts, hear_all_but, hear_nobody, hear_only
from tests.rig import until
from tests.transport.dialling import dial

SOON = 0.3
"""Seconds that stand in for AGAIN: less than the kernel takes to repeat a packet."""


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(module, "AGAIN", SOON)


@pytest.fixture
def listening(close_later):
    return close_later(socket.create_server(("127.0.0.1", 0)))


@pytest.fixture
def made(monkeypatch):
    sockets = Attempts(module.socket)
    monkeypatch.setattr(module, "socket", sockets)
    return sockets


def dialling(close_later, listening, seconds=20):
    return close_later(gevent.spawn(dial, *listening.getsockname(), seconds))


def port_of(sock):
    return sock.getsockname()[1]


def test_a_port_that_is_not_heard_is_left_for_another(close_later, listening, made):
    hear_nobody(listening)
    dial_ = dialling(close_later, listening)
    until(lambda: made, "the first attempt")
    lost = port_of(made[0])
    hear_all_but(listening, lost)
    with dial_.get() as sock:
        assert port_of(sock) != lost
        assert sock is made[-1]
        assert sock.gettimeout() is None
        assert all(each.fileno() == -1 for each in made[:-1])


def test_an_attempt_that_is_only_slow_keeps_its_time(close_later, listening, made):
    """The kernel repeats its first packet after a second, when several attempts beside it have gone."""
    hear_nobody(listening)
    dial_ = dialling(close_later, listening)
    until(lambda: made, "the first attempt")
    slow = port_of(made[0])
    hear_only(listening, slow)
    with dial_.get() as sock:
        assert port_of(sock) == slow
    assert len(made) > 2
    assert made.most == 2
    assert all(each.fileno() == -1 for each in made)


def test_what_an_address_answers_to_the_second_attempt_counts(close_later, made):
    # Nobody else may listen there when the first one has ended.
    port = close_later(held())
    listening = socket.create_server(port.getsockname())
    hear_nobody(listening)
    dial_ = dialling(close_later, listening)
    until(lambda: made, "the first attempt")
    listening.close()
    with pytest.raises(DialError, match=rf"127\.0\.0\.1:{port.getsockname()[1]}: connection refused$"):
        dial_.get()
    assert all(each.fileno() == -1 for each in made)


def test_no_descriptor_for_another_attempt_leaves_the_first_alone(close_later, listening, made):
    hear_nobody(listening)
    made.fault = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    dial_ = dialling(close_later, listening)
    until(lambda: made.faults >= 2, "two attempts that had none")
    hear_only(listening, port_of(made[0]))
    with dial_.get() as sock:
        assert sock is made[0]


def test_no_descriptor_at_all_is_told(monkeypatch):
    def none(*_):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(module, "socket", none)
    with pytest.raises(DialError, match=r"127\.0\.0\.1:1: too many open files in this process"):
        dial("127.0.0.1", 1, 5)


def test_attempts_beside_others_do_not_make_a_dial_longer(close_later, listening, made):
    hear_nobody(listening)
    began = monotonic()
    with pytest.raises(DialError, match=r"127\.0\.0\.1:\d+: no answer in time"):
        dial(*listening.getsockname(), 2.5 * SOON)
    assert monotonic() - began >= 2.5 * SOON - 0.01
    # A busy machine has time for fewer.
    assert 1 <= len(made) <= 3
    assert all(each.fileno() == -1 for each in made)


def test_a_dial_that_is_given_up_leaves_no_socket(close_later, listening, made):
    hear_nobody(listening)
    dial_ = dialling(close_later, listening)
    until(lambda: len(made) == 2, "the second attempt")
    dial_.kill()
    assert all(each.fileno() == -1 for each in made)


def test_an_address_for_which_no_time_is_left_says_so(listening):
    hear_nobody(listening)
    address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", listening.getsockname())
    sock, failures = module.race([address, address], monotonic() + 0.1)
    assert sock is None
    assert failures == ["127.0.0.1: no answer in time", "127.0.0.1: no time was left to try it"]
