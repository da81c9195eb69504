"""Agents behind real proxies: what goes through, what a refusal says, and what no log may show."""

import base64
import json
import logging
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import gevent
import pytest

from argotun.agent.app import Agent
from argotun.config.network import parse_proxy
from bench.ports import free_port
from tests.parity.processes import program
from tests.rig import Api, Peer, Rig, answers_its_own, until
from tests.survival.proxies import (
    CREDENTIALS,
    FORBIDDEN,
    NAME,
    PASSWORD,
    USER,
    RealProxy,
    squid,
    tinyproxy,
)
from tests.transport.dialling import dial_through

LONG = 30.0
"""Seconds that a loaded machine may take for what is done in milliseconds."""

SECRETS = (
    PASSWORD,
    CREDENTIALS.partition(":")[2],
    base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode(),
    json.dumps(PASSWORD)[1:-1],
)


@pytest.fixture(scope="module")
def squids() -> Iterator[RealProxy]:
    with squid() as proxy:
        yield proxy


@pytest.fixture(scope="module")
def tinies() -> Iterator[RealProxy]:
    with tinyproxy() as proxy:
        yield proxy


@pytest.fixture(params=["squid", "squid by IPv6", "squid behind TLS", "tinyproxy"])
def url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of each proxy in turn, with credentials."""
    if request.param == "tinyproxy":
        return request.getfixturevalue("tinies").url(credentials=f"{USER}:s3cr3t")
    proxy = request.getfixturevalue("squids")
    monkeypatch.setenv("SSL_CERT_FILE", str(proxy.folder / "ca.pem"))
    return proxy.url({"squid": "plain", "squid by IPv6": "six", "squid behind TLS": "tls"}[request.param])


def echo(peer: Peer) -> None:
    """Give every request its body back."""
    while True:
        head = peer.head()
        size = int(next(x for x in head.split(b"\r\n") if x.startswith(b"Content-Length:")).split()[1])
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        peer.send(peer.read(size))


def show(rig: Rig, name: str) -> None:
    """Let the server show a certificate for this name alone."""
    leaf = rig.authority.ca.issue_cert(name)
    leaf.private_key_pem.write_to_path(rig.authority.path("server.key"))
    leaf.cert_chain_pems[0].write_to_path(rig.authority.path("server.pem"))


def refusal(rig: Rig, proxy: str, **options: Any) -> str:
    """What an agent says that this proxy refuses."""
    agent = rig.make_agent(proxy=proxy, **options)
    agent.start()
    until(lambda: last_error(agent), "the refusal", LONG)
    assert not agent.connected.is_set()
    said = last_error(agent)
    agent.stop()
    return said


def last_error(agent: Agent) -> str:
    return str(agent._status()["lastError"])


# What goes through


def test_bytes_pass_a_proxy_unchanged(url: str) -> None:
    body = bytes(range(256)) * 8192
    with Rig(Api(echo), agent=None) as rig:
        rig.start_agent(proxy=url)
        client = rig.client()
        sending = gevent.spawn(
            client.send,
            b"PUT /tunnel/c1/x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body),
        )
        received = client.response().body
        sending.get()
        assert sha256(received).digest() == sha256(body).digest()


def test_an_upgraded_connection_passes_a_proxy(url: str) -> None:
    def shell(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\nConnection: Upgrade\r\n\r\n$ ")
        peer.send(peer.read(3).upper())

    with Rig(Api(shell), agent=None) as rig:
        rig.start_agent(proxy=url)
        client = rig.client()
        client.send(
            b"POST /tunnel/c1/exec HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
            b"Content-Length: 0\r\n\r\n"
        )
        assert client.response().status == 101
        client.send(b"ls\n")
        assert client.rest() == b"$ LS\n"


def test_an_ipv6_server_is_asked_for_in_brackets(squids: RealProxy) -> None:
    rig = Rig(Api(answers_its_own), agent=None, server={"addr": ("::1", 0)})
    show(rig, "::1")
    with rig:
        host = f"[::1]:{rig.server.public_address[1]}"
        rig.start_agent(proxy=squids.url("six"), server=f"wss://{host}/connect")
        assert rig.ask().status == 200
    until(lambda: f"CONNECT {host} " in squids.log(), "the proxy's line", LONG)


def test_an_idle_tunnel_outlives_a_proxy_that_likes_none() -> None:
    """The pings keep it: another connection, which says nothing, comes and goes meanwhile."""
    with tinyproxy(idle=1) as proxy, Rig(Api(answers_its_own), agent=None) as rig:
        way = proxy.url(credentials=f"{USER}:s3cr3t")
        agent = rig.start_agent(proxy=way, keepalive=0.1)
        tunnel = agent.tunnels[0]
        with dial_through("127.0.0.1", rig.api.port, LONG, parse_proxy(way)) as idle, gevent.Timeout(LONG):
            assert idle.recv(1) == b""
        assert agent.tunnels == [tunnel]
        assert rig.ask().status == 200


# What a refusal says


@pytest.mark.parametrize("port", ["plain", "six", "tls"])
def test_the_words_say_which_credentials_squid_wants(
    squids: RealProxy, port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(squids.folder / "ca.pem"))
    with Rig(agent=None) as rig:
        assert "the proxy wants user and password" in refusal(rig, squids.url(port, credentials=""))
        wrong = refusal(rig, squids.url(port, credentials="customer:wrong"))
        assert "the proxy does not accept the user and password" in wrong
        assert "407" in wrong


def test_the_words_say_which_credentials_tinyproxy_wants(tinies: RealProxy) -> None:
    with Rig(agent=None) as rig:
        assert "the proxy wants user and password" in refusal(rig, tinies.url(credentials=""))
        wrong = refusal(rig, tinies.url(credentials="customer:wrong"))
        assert "the proxy does not accept the user and password" in wrong


def test_a_forbidden_address_is_told_from_one_that_does_not_answer(squids: RealProxy) -> None:
    closed = free_port()
    with Rig(agent=None) as rig:
        forbidden = refusal(rig, squids.url(), server=f"wss://127.0.0.1:{FORBIDDEN}/connect")
        assert f"the proxy does not allow this address: 127.0.0.1:{FORBIDDEN} (403" in forbidden
        dead = refusal(rig, squids.url(), server=f"wss://127.0.0.1:{closed}/connect")
        assert f"the proxy cannot reach the address, or is not ready: 127.0.0.1:{closed} (503" in dead
        # The proxies' own pages are for people with browsers.
        assert "<" not in forbidden + dead


def test_the_words_say_that_tinyproxy_cannot_reach_the_address(tinies: RealProxy) -> None:
    closed = free_port()
    with Rig(agent=None) as rig:
        way = tinies.url(credentials=f"{USER}:s3cr3t")
        said = refusal(rig, way, server=f"wss://127.0.0.1:{closed}/connect")
        assert f"the proxy refused to connect: 127.0.0.1:{closed} (500" in said


def test_a_proxys_wrong_scheme_is_recognised(squids: RealProxy) -> None:
    with Rig(agent=None) as rig:
        said = refusal(rig, squids.url("plain").replace("http:", "https:"))
        assert "the proxy: TLS handshake: the other side does not speak TLS on this port" in said
        said = refusal(rig, squids.url("tls").replace("https:", "http:"))
        assert said.startswith("cannot connect: the proxy ")


def test_a_proxy_behind_tls_is_not_trusted_without_its_ca(squids: RealProxy) -> None:
    with Rig(agent=None) as rig:
        said = refusal(rig, squids.url("tls"))
        assert "the proxy: TLS handshake: " in said
        assert "comes from a CA that is not among the CA certificates given" in said


@pytest.mark.parametrize("port", ["plain", "tls"])
def test_a_silent_proxy_is_not_waited_for_without_end(
    squids: RealProxy, port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(squids.folder / "ca.pem"))
    with Rig(Api(answers_its_own), agent=None) as rig:
        with squids.silent():
            agent = rig.make_agent(proxy=squids.url(port), dial_timeout=0.3)
            agent.start()
            until(lambda: "in time" in last_error(agent), "the end of the wait", LONG)
        # Its backlog holds attempts that nobody waits for any more; the next one is served.
        agent.stop()
        rig.start_agent(proxy=squids.url(port))
        assert rig.ask().status == 200


# When the proxy goes away


def test_no_request_hangs_when_the_proxy_dies() -> None:
    asked: list[bytes] = []

    def hang(peer: Peer) -> None:
        asked.append(peer.head())
        peer.rest()

    api = Api(hang)
    with squid() as proxy, Rig(api, agent=None) as rig:
        agent = rig.start_agent(proxy=proxy.url())
        client = rig.client()
        client.send(b"GET /tunnel/c1/x HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: asked, "the request at the API")
        proxy.kill()
        assert client.response().status == 502
        until(lambda: "the proxy cannot be reached" in last_error(agent), "the agent's words", LONG)
        api.script = answers_its_own
        proxy.start()
        until(agent.connected.is_set, "the agent's return", LONG)
        until(lambda: len(rig.server.registry) == 1, "the session")
        assert rig.ask().status == 200


# Environment and logs


@pytest.fixture
def named() -> Iterator[Rig]:
    """A server whose certificate has the name that the proxy alone resolves."""
    rig = Rig(agent=None)
    show(rig, NAME)
    with rig:
        yield rig


def flags(rig: Rig) -> list[str]:
    """An agent of this rig as a command line, as talkative as it can be."""
    config = rig.agent_config()
    return [
        *("--mode", "agent", "--log-level", "debug", "--dial-timeout", "5s", "--max-retry", "1s"),
        *("--server", f"wss://{NAME}:{rig.server.public_address[1]}/connect", "--token", rig.TOKEN),
        *("--server-ca-cert", str(config.server_ca_cert)),
        *("--client-cert", str(config.client_cert), "--client-key", str(config.client_key)),
        *("--target", f"127.0.0.1:{rig.api.port}", "--ca-cert", str(config.ca_cert)),
        *("--sa-token-path", str(config.sa_token_path), "--health-addr", "off"),
    ]


def everything_said(started: Any) -> str:
    """What a program wrote from its start to its end, which is now."""
    started.process.terminate()
    out, err = started.process.communicate(timeout=LONG)
    return str(started.log + err + out)


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy"])
def test_the_environments_proxy_is_used(named: Rig, squids: RealProxy, variable: str) -> None:
    environ = {variable: squids.url(), "NO_PROXY": "10.0.0.0/8,.svc,other.example"}
    with program(*flags(named), **environ) as agent:
        agent.say("connected")
        until(lambda: len(named.server.registry) == 1, "the session")
        assert named.get().status == 200
    # Squid writes its line at the end of the connection.
    line = f"CONNECT {NAME}:{named.server.public_address[1]} {USER} "
    until(lambda: line in squids.log(), "the proxy's line", LONG)


@pytest.mark.parametrize("exempt", ["*", NAME, ".example", "a.example, b tunnel.example:{port}"])
def test_an_exempt_name_is_not_dialled_through_the_proxy(named: Rig, squids: RealProxy, exempt: str) -> None:
    port = named.server.public_address[1]
    environ = {"HTTPS_PROXY": squids.url(), "NO_PROXY": exempt.format(port=port)}
    with program(*flags(named), **environ) as agent:
        agent.say(rf"cannot connect to {NAME}:{port}: the name (cannot be|was not) resolved")


@pytest.mark.parametrize(
    ("form", "by", "wrong"),
    [
        ("text", "flag", True),
        ("json", "flag", False),
        ("text", "environment", False),
        ("json", "environment", True),
    ],
)
def test_the_proxys_password_is_in_no_log(
    named: Rig, squids: RealProxy, form: str, by: str, wrong: bool
) -> None:
    way = squids.url(credentials=CREDENTIALS.replace("customer", "nobody") if wrong else CREDENTIALS)
    given, environ = (["--proxy", way], {}) if by == "flag" else ([], {"HTTPS_PROXY": way})
    with program(*flags(named), *given, "--log-format", form, **environ) as agent:
        agent.say("does not accept the user and password" if wrong else "connected")
        if not wrong:
            until(lambda: len(named.server.registry) == 1, "the session")
            named.get()
        said = everything_said(agent)
    encoded = base64.b64encode(f"nobody:{PASSWORD}".encode()).decode()
    assert not [secret for secret in (*SECRETS, encoded) if secret in said]
    assert named.TOKEN not in said
    assert "sa-token" not in said.replace(str(named.token_file), "")


def test_the_proxys_password_is_in_no_message_about_options(named: Rig, squids: RealProxy) -> None:
    shown = ""
    for way in (squids.url(), squids.url().replace("http:", "socks5:"), squids.url() + "0000"):
        with program(*flags(named), "--proxy", way, "--print-config") as printing:
            shown += "".join(printing.process.communicate(timeout=LONG))
    assert "--proxy" in shown
    assert not [secret for secret in SECRETS if secret in shown]


def test_no_password_of_the_proxy_is_logged_in_this_process(
    squids: RealProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with Rig(agent=None) as rig:
        agent = rig.start_agent(proxy=squids.url())
        said = refusal(rig, squids.url(credentials=CREDENTIALS.replace("customer", "nobody")))
        shown = caplog.text + said + json.dumps(agent._status()) + repr(agent.config)
    assert "does not accept" in shown
    assert not [secret for secret in SECRETS if secret in shown]
