"""The way to a server as named steps, which the agent's loop walks, and a check may."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import gevent
import pytest

from argotun.agent.connector import STEPS
from argotun.config.proxies import Proxy
from argotun.errors import ArgotunError, DialError, HandshakeError, NameLost
from argotun.tunnel.tunnel import Tunnel
from bench.ports import held
from tests.raw_websocket import Listening
from tests.rig import Authority, Rig, until


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(agent=None) as rig:
        yield rig


def walk(
    rig: Rig, between: Callable[[str], object] = lambda name: None, **options: object
) -> tuple[list[str], object]:
    """The steps that were done, and what the last of them gave or what went wrong behind it.

    `between` is called behind each of them.
    """
    done: list[str] = []
    last: object = None
    try:
        for name, given in rig.make_agent(**options).connector.approach():
            done.append(name)
            last = given
            between(name)
    except ArgotunError as error:
        return done, error
    return done, last


def test_the_steps_lead_to_a_tunnel_that_is_served(rig: Rig) -> None:
    done, tunnel = walk(rig)
    assert tuple(done) == STEPS
    assert isinstance(tunnel, Tunnel)
    assert rig.get().body == b"ok"


@pytest.mark.parametrize(
    ("options", "last", "error"),
    [
        ({"server": "wss://no-such-name.invalid/connect"}, None, NameLost),
        ({"server": "wss://127.0.0.1:1/connect"}, "resolve", DialError),
        ({"server_ca_cert": None}, "proxy", HandshakeError),
        ({"token": "not-the-token"}, "tls", HandshakeError),
    ],
    ids=["name", "port", "certificate", "token"],
)
def test_the_step_that_failed_is_the_one_behind_the_last_that_was_done(
    rig: Rig, options: dict[str, object], last: str | None, error: type[ArgotunError]
) -> None:
    done, failure = walk(rig, **options)
    assert done == list(STEPS[: STEPS.index(last) + 1 if last else 0])
    assert isinstance(failure, error)


def test_a_server_that_says_no_hello_leaves_the_last_step_undone(rig: Rig) -> None:
    with Listening() as listening:
        agent = rig.make_agent(
            server=f"ws://127.0.0.1:{listening.address[1]}/connect", allow_insecure_server=True
        )
        agent.start()
        server = listening.accept(b"Sec-WebSocket-Protocol: argotun.v2\r\n")
        server.close()
        until(lambda: agent.connector.problem.startswith("cannot connect: "), "the agent's words")
        assert not agent.connected.is_set()


def test_a_port_where_nobody_listens_is_told_in_few_words(rig: Rig) -> None:
    with held() as closed:
        port = closed.getsockname()[1]
        agent = rig.make_agent(server=f"ws://127.0.0.1:{port}/connect", allow_insecure_server=True)
        agent.start()
        until(lambda: agent.connector.problem != "", "the agent's words")
    assert agent.connector.problem == f"cannot connect to 127.0.0.1:{port}: connection refused"


def test_a_proxy_that_cannot_be_reached_is_told_in_few_words(rig: Rig) -> None:
    with held() as closed:
        port = closed.getsockname()[1]
        agent = rig.make_agent(proxy=Proxy("127.0.0.1", port))
        agent.start()
        until(lambda: agent.connector.problem != "", "the agent's words")
    why = f"the proxy cannot be reached: cannot connect to 127.0.0.1:{port}: connection refused"
    assert agent.connector.problem == why


@pytest.mark.parametrize(
    ("shown", "why"),
    [
        (None, "the other side requires a client certificate and got none"),
        ("expired", "the other side says that our certificate has expired"),
        ("strange", "the other side does not know the CA of our certificate"),
    ],
)
def test_a_certificate_that_is_refused_has_one_reason_however_late_it_is_heard(
    rig: Rig, tmp_path: Path, shown: str | None, why: str
) -> None:
    ours = rig.authority
    if shown == "expired":
        ours.issue(shown, "c1", not_after=datetime(2020, 1, 1, tzinfo=UTC))
    elif shown == "strange":
        ours = Authority(tmp_path)
        ours.issue(shown, "c1")
    files = {
        "client_cert": ours.path(f"{shown}.pem") if shown else None,
        "client_key": ours.path(f"{shown}.key") if shown else None,
    }
    refused = rig.server.metrics._auth_failures
    for late in (False, True):
        sofar = refused["handshake"]

        def judged(name: str = "tls", late: bool = late, sofar: int = sofar) -> None:
            if name == "tls" and late:
                until(lambda: refused["handshake"] > sofar, "the server's refusal")

        _, failure = walk(rig, judged, **files)
        assert str(failure) == f"the server did not answer: {why}"
        judged(late=True)


@pytest.mark.parametrize("step", [None, *STEPS[:-1]])
def test_an_agent_that_is_told_to_end_displaces_nobody(step: str | None) -> None:
    with Rig() as rig:
        serving = rig.session
        connector = rig.make_agent().connector
        approach = connector.approach

        def told() -> Iterator[tuple[str, object]]:
            for done in approach():
                if done[0] == step:
                    connector.stop()
                yield done

        connector.approach = told
        if step is None:
            connector.stop()
        with pytest.raises(gevent.GreenletExit):
            connector.dial()
        until(lambda: len(rig.server.agents._tunnels["c1"]) == 1, "the end of what it had begun")
        assert rig.session is serving
        assert serving.usable
        assert rig.get().body == b"ok"
