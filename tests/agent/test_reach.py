"""What an agent finds out about its own API before anybody asks: in its log, in `/status` and in a gauge."""

import logging

import pytest

from tests.rig import Api, Peer, Rig, until

OFTEN = 0.1
"""Seconds between two questions here."""

VERSION = b'{"major": "1", "gitVersion": "v1.36.3"}'


def api(status: bytes, body: bytes = b"") -> tuple[Api, list[bytes]]:
    """An API that says the same to everybody, and the heads that it was asked with."""
    heads: list[bytes] = []

    def script(peer: Peer) -> None:
        heads.append(peer.head())
        peer.send(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))

    return Api(script), heads


def rig(served: Api, **agent: object) -> Rig:
    return Rig(served, agent={"api_check": OFTEN, **agent})


def status(rig: Rig) -> dict[str, object]:
    found = rig.agent._status()
    return {name: found[name] for name in ("apiReachable", "apiVersion", "apiProblem")}


def lines(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    return [each.getMessage() for each in caplog.records if words in each.getMessage()]


def test_an_api_that_answers_is_told_once_with_its_version(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    served, heads = api(b"200 OK", VERSION)
    with rig(served) as world:
        until(lambda: len(heads) > 2, "three questions")
        assert status(world) == {"apiReachable": True, "apiVersion": "v1.36.3", "apiProblem": ""}
        assert world.agent.metrics.api_reachable == 1
    assert len(lines(caplog, "the API answers")) == 1
    assert heads[0].startswith(b"GET /version HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer sa-token\r\n" in heads[0]


def test_an_api_that_forbids_the_version_can_be_asked_all_the_same() -> None:
    served, heads = api(b"403 Forbidden")
    with rig(served) as world:
        until(lambda: len(heads) > 1, "two questions")
        assert status(world) == {"apiReachable": True, "apiVersion": "", "apiProblem": ""}


def test_a_refused_credential_is_told_as_that(caplog: pytest.LogCaptureFixture) -> None:
    served, heads = api(b"401 Unauthorized")
    with rig(served) as world:
        until(lambda: len(heads) > 2, "three questions")
        assert status(world)["apiReachable"] is False
        assert world.agent.metrics.api_reachable == 0
    # The same reason is told once.
    (line,) = lines(caplog, "the API cannot be asked")
    assert "does not accept the agent's own credential (401)" in line


def test_an_api_that_is_not_there_is_told_while_the_tunnel_is_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    served, _ = api(b"200 OK", VERSION)
    with rig(served, target=("127.0.0.1", 1)) as world:
        until(lambda: status(world)["apiReachable"] is False, "the first answer")
        assert world.agent.connected.is_set()
        assert "127.0.0.1:1" in str(status(world)["apiProblem"])
    assert "connection refused" in lines(caplog, "the API cannot be asked")[0]


def test_an_api_that_comes_back_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    answers = [b"500 Internal Server Error", b"200 OK"]

    def script(peer: Peer) -> None:
        peer.head()
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        peer.send(b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % answer)

    with rig(Api(script)):
        until(lambda: lines(caplog, "the API answers"), "its return")
    assert "500 Internal Server Error" in lines(caplog, "the API cannot be asked")[0]


@pytest.mark.parametrize(
    "body",
    [
        b"[1]",
        b"null",
        b'{"gitVersion": 7}',
        b"\xff",
        b"",
        b'{"gitVersion": "v1\\n\\u001b[2J"}',
        # Else nobody would ask again.
        b"[" * 4096,
    ],
)
def test_no_answer_of_an_api_can_do_harm(body: bytes) -> None:
    served, heads = api(b"200 OK", body)
    with rig(served) as world:
        until(lambda: len(heads) > 1, "two questions")
        assert status(world)["apiReachable"] is True
        assert str(status(world)["apiVersion"]).isprintable()


def test_with_0_the_agent_never_asks() -> None:
    served, heads = api(b"200 OK", VERSION)
    with rig(served, api_check=0.0) as world:
        assert world.get("/tunnel/c1/api").status == 200
        assert [head.split(b" ")[1] for head in heads] == [b"/api"]
        assert status(world)["apiReachable"] is None
