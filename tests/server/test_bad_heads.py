"""Heads that are no HTTP, or that do not end: each is answered, and nothing of it reaches the API."""

from collections.abc import Iterator

import gevent
import pytest

from tests.rig import Peer, Rig, send_what_is_taken
from tests.wire.http_corpus import Case, load

GET = b"GET /tunnel/c1/api HTTP/1.1\r\nHost: a\r\n\r\n"

INVALID = load("request/invalid")


@pytest.fixture(scope="module")
def shared() -> Iterator[Rig]:
    """One rig for the tests that must not reach the API."""
    with Rig() as rig:
        yield rig
        assert rig.api.connections == 0


def refused(client: Peer, case: Case) -> None:
    response = client.response()
    assert response.status == case.expect["status"]
    assert response.header("connection") == "close"
    assert response.json()["kind"] == "Status"
    assert case.expect["says"] in response.json()["message"]
    assert client.rest() == b""


@pytest.mark.parametrize("case", INVALID, ids=str)
def test_an_invalid_head_is_answered_and_the_connection_closed(shared: Rig, case: Case) -> None:
    client = shared.client()
    send_what_is_taken(client, case.data.replace(b"/api", b"/tunnel/c1/api", 1), 1 << 20)
    refused(client, case)
    client.close()


@pytest.mark.parametrize("case", [case for case in INVALID if len(case.data) < 1000], ids=str)
def test_an_invalid_head_one_byte_at_a_time_is_answered_alike(shared: Rig, case: Case) -> None:
    client = shared.client()
    send_what_is_taken(client, case.data, 1)
    refused(client, case)
    client.close()


def test_an_invalid_head_after_a_good_request_is_answered_too() -> None:
    with Rig() as rig:
        client = rig.client()
        assert rig.get(client=client).status == 200
        client.send(b"GET /tunnel/c1/api HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        assert client.response().status == 400
        assert client.ended() == "closed"
        rig.settle()


def test_an_invalid_head_behind_an_unanswered_request_waits_for_its_turn() -> None:
    with Rig() as rig:
        client = rig.client()
        client.send(GET + b"nonsense\r\n\r\n")
        assert client.response().status == 200
        assert client.response().status == 400
        assert client.ended() == "closed"


def test_a_head_that_never_ends_is_a_408(impatient: None) -> None:
    with Rig(server={"head_timeout": 0.2}) as rig:
        client = rig.client()
        client.send(b"GET /tunnel/c1/api HTTP/1.1\r\nHost")
        assert client.response().status == 408
        assert client.ended() == "closed"
        assert rig.api.connections == 0


def test_a_second_head_that_never_ends_is_a_408(impatient: None) -> None:
    with Rig(server={"head_timeout": 0.2}) as rig:
        client = rig.client()
        assert rig.get(client=client).status == 200
        client.send(b"GET /")
        assert client.response().status == 408
        assert client.ended() == "closed"


def test_a_drop_at_a_time_does_not_stretch_the_head_timeout(impatient: None) -> None:
    with Rig(server={"head_timeout": 0.3}) as rig:
        client = rig.client()

        def drip() -> None:
            try:
                client.send(b"GET / HTTP/1.1\r\n")
                while True:
                    client.send(b"a: b\r\n")
                    gevent.sleep(0.02)
            except OSError:
                pass

        dripping = gevent.spawn(drip)
        assert client.response().status == 408
        dripping.kill()


def test_an_idle_connection_is_closed_without_a_word(impatient: None) -> None:
    with Rig(server={"idle_timeout": 0.2}) as rig:
        fresh, used = rig.client(), rig.client()
        assert rig.get(client=used).status == 200
        assert fresh.rest() == b""
        assert used.rest() == b""
