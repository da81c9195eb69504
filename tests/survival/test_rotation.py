"""Certificates, keys, tokens and the clusters file are swapped under live tunnels, as the kubelet does it."""

import datetime
import re
import ssl
from pathlib import Path
from typing import Any

import gevent
import pytest
import trustme
from gevent.monkey import get_original

from argotun.server import app
from bench.echo import echo
from tests.rig import Api, Peer, Rig, answers_its_own, until
from tests.survival.rotating import (
    LONG,
    Site,
    errors,
    expiry,
    issued,
    last_error,
    reload_errors,
    serial,
)

LATER = datetime.datetime(2031, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)


class Watched:
    """An API with a watch that is open while files change; `event` lets it say one more thing."""

    def __init__(self) -> None:
        self.watchers: list[Peer] = []
        self.api = Api(self._script)

    def _script(self, peer: Peer) -> None:
        while True:
            head = peer.head()
            if b"watch=1" in head:
                peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                self.watchers.append(peer)
            else:
                peer.send(echo(head))

    def begin(self, rig: Rig) -> Peer:
        """A client with an open watch."""
        client = rig.client()
        client.send(b"GET /tunnel/c1/api/v1/pods?watch=1 HTTP/1.1\r\nHost: a\r\n\r\n")
        client.head()
        return client

    def goes_on(self, client: Peer) -> None:
        """The watch that was opened first is still open, from the API to the client."""
        self.watchers[0].send(b"5\r\nevent\r\n")
        assert client.until(b"event\r\n").endswith(b"event\r\n")


# The server's files


@pytest.mark.parametrize("port", ["public", "internal"])
def test_a_new_server_certificate_needs_no_restart(port: str) -> None:
    with Site(server={"internal_plain": False}) as site:
        number = getattr(site.server, f"{port}_address")[1]
        assert site.shake(site.agent_files, port=number)
        tunnel = site.agent.tunnels[0]
        fresh = issued(site.ca, "127.0.0.1", not_after=LATER)
        site.publish("server", **fresh)
        assert site.shake(site.agent_files, port=number)["serialNumber"] == serial(fresh["tls_crt"])
        assert expiry(site.server.metrics, "certificate") == LATER.timestamp()
        assert site.agent.tunnels == [tunnel]


def test_a_new_server_certificate_does_not_disturb_what_is_open() -> None:
    watched = Watched()
    with Site(watched.api) as site:
        client = watched.begin(site)
        site.publish("server", **issued(site.ca, "127.0.0.1"))
        site.publish("agent", **issued(site.ca, "agent.new"))
        site.shake(site.agent_files)
        assert site.ask().status == 200
        watched.goes_on(client)
        assert site.agent_name() == "agent.old"


def test_a_key_that_comes_after_its_certificate_breaks_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Somebody copies one file after the other: until both are there the old pair is shown."""
    with Site() as site:
        old = site.shake(site.agent_files)["serialNumber"]
        fresh = issued(site.ca, "127.0.0.1")
        certificate = Path(site.path("server", "tls.crt")).resolve()
        for size in (0, 100, len(fresh["tls_crt"])):
            certificate.write_bytes(fresh["tls_crt"][:size])
            assert site.shake(site.agent_files)["serialNumber"] == old
        site.redial()
        Path(site.path("server", "tls.key")).resolve().write_bytes(fresh["tls_key"])
        assert site.shake(site.agent_files)["serialNumber"] == serial(fresh["tls_crt"])
        said = errors(caplog)
        assert len(said) == reload_errors(site.server.metrics, "certificates") == 3
        assert "this is the key of another one" in said[-1]


def test_a_client_ca_can_be_exchanged_without_an_outage() -> None:
    """Old, both, new: at each step those are let in who should be, and nobody loses a tunnel."""
    watched = Watched()
    with Site(watched.api) as site:
        client = watched.begin(site)
        other = trustme.CA()
        old, new = site.agent_files, issued(other, "agent.new", trust=site.ca.cert_pem.bytes())
        bundles = {
            "old": (site.ca.cert_pem.bytes(), [old], [new]),
            "both": (site.ca.cert_pem.bytes() + other.cert_pem.bytes(), [old, new], []),
            "new": (other.cert_pem.bytes(), [new], [old]),
        }
        for name, (bundle, welcome, strangers) in bundles.items():
            site.publish("server", **issued(site.ca, "127.0.0.1", trust=bundle))
            for files in welcome:
                site.shake(files)
            for files in strangers:
                with pytest.raises(OSError, match="unknown ca"):
                    site.shake(files)
            if name == "both":
                site.publish("agent", **new)
        assert site.agent_name() == "agent.old"
        watched.goes_on(client)
        site.redial()
        assert site.agent_name() == "agent.new"


# The agent's files


def test_a_new_agent_certificate_needs_no_restart() -> None:
    with Site() as site:
        site.publish("agent", **issued(site.ca, "agent.new", not_after=LATER))
        assert expiry(site.agent.metrics, "certificate") == LATER.timestamp()
        assert site.agent_name() == "agent.old"
        site.redial()
        assert site.agent_name() == "agent.new"


def test_a_server_ca_can_be_exchanged_without_an_outage() -> None:
    with Site() as site:
        other = trustme.CA()
        both = site.ca.cert_pem.bytes() + other.cert_pem.bytes()
        site.publish("agent", **site.agent_files | {"ca_crt": both})
        site.redial()
        site.publish("server", **issued(other, "127.0.0.1", trust=site.ca.cert_pem.bytes()))
        site.redial()
        site.publish("agent", **site.agent_files | {"ca_crt": other.cert_pem.bytes()})
        site.redial()
        site.publish("server", **issued(site.ca, "127.0.0.1"))
        before = site.cut()
        until(lambda: "not among the CA" in last_error(site.agent), "the refusal", LONG)
        # As an operator repairs it: the agent trusts what the server shows.
        site.publish("agent", **site.agent_files)
        site.returned(before)


def test_a_new_token_of_the_agent_needs_no_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server takes the old one away: its session ends, and the agent comes with the new one."""
    monkeypatch.setattr(app, "REFRESH", 0.05)
    with Site() as site:
        before = site.both_sides()
        site.let_in({"id": "c1", "tokens": [site.TOKEN, "token-of-agent-new"]})
        site.publish("token", token=b"token-of-agent-new\n")
        until(lambda: len(site.server.clusters.clusters["c1"].tokens) == 2, "the second token")
        assert site.both_sides() == before
        site.let_in({"id": "c1", "token": "token-of-agent-new"})
        site.returned(before)
        assert site.ask().status == 200
        late = site.make_agent(token=site.TOKEN, token_file=None)
        late.start()
        until(lambda: "does not accept the token" in last_error(late), "the refusal", LONG)


def test_a_broken_token_file_does_not_cost_the_agent_its_tunnel(caplog: pytest.LogCaptureFixture) -> None:
    with Site() as site:
        for broken in (b"", b"", b"tok c1"):
            site.publish("token", token=broken)
            site.redial()
            assert site.ask().status == 200
        said = errors(caplog)
        assert len(said) == reload_errors(site.agent.metrics, "token") == 2
        assert all("the token read before stays in use" in line for line in said)


# The API's files


def identities(api_sees: list[str]) -> Api:
    """An API that asks for certificates, and notes whose it got with each connection."""

    class Asking(Api):
        def start(self, authority: Any) -> None:
            context = authority.server_context

            def asking() -> ssl.SSLContext:
                made: ssl.SSLContext = context()
                made.verify_mode = ssl.CERT_REQUIRED
                authority.ca.configure_trust(made)
                return made

            authority.server_context = asking
            super().start(authority)

    def script(peer: Peer) -> None:
        api_sees.append(str(peer.sock.getpeercert()["subjectAltName"][0][1]))
        answers_its_own(peer)

    return Asking(script)


def test_a_new_ca_of_the_api_needs_no_restart(caplog: pytest.LogCaptureFixture) -> None:
    with Site() as site:
        assert site.ask().status == 200
        other = trustme.CA()
        site.api.stop()
        site.authority.issued = other.issue_cert("127.0.0.1")
        site.api.start(site.authority)
        refused = site.ask()
        assert (refused.status, refused.header("retry-after")) == (503, "1")
        assert "not among the CA certificates" in refused.json()["message"]
        site.publish("api", ca_crt=other.cert_pem.bytes())
        assert site.ask().status == 200
        assert not errors(caplog)


def test_a_new_certificate_towards_the_api_needs_no_restart() -> None:
    seen: list[str] = []
    site = Site(identities(seen))
    site._agent_options |= {
        "target_client_cert": site.path("identity", "tls.crt"),
        "target_client_key": site.path("identity", "tls.key"),
        "sa_token_path": None,
    }
    with site:
        kept = site.client()
        assert site.ask(client=kept, account="nobody").status == 200
        site.publish("identity", **issued(site.authority.ca, "identity.new", not_after=LATER))
        assert expiry(site.agent.metrics, "api_certificate") == LATER.timestamp()
        assert site.ask(client=kept, account="nobody").status == 200
        assert site.ask(account="nobody").status == 200
        assert seen == ["identity.old", "identity.new"]


def test_a_broken_account_token_is_reported_in_the_log_as_well(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[bytes] = []

    def note(peer: Peer) -> None:
        while True:
            head = peer.head()
            seen.extend(re.findall(rb"account-\w+", head))
            peer.send(echo(head))

    with Site(Api(note)) as site:
        client = site.client()
        assert site.ask(client=client).status == 200
        before = site.agent.metrics.upstream_errors
        site.publish("account", token=b"\n")
        until(lambda: errors(caplog), "the report, which waits for no request", LONG)
        assert [site.ask(client=client).status for _ in range(3)] == [502] * 3
        assert site.agent.metrics.upstream_errors == before + 3
        site.publish("account", token=b"account-new\n")
        assert site.ask(client=client, account="account-new").status == 200
        assert seen == [b"account-old", b"account-new"]
        (said,) = errors(caplog)
        assert site.path("account", "token") in said
        assert reload_errors(site.agent.metrics, "token") == 1
        assert site.api.connections == 1


# The clusters file


def test_a_removed_cluster_loses_its_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "REFRESH", 0.05)
    watched = Watched()
    with Site(watched.api) as site:
        site.let_in({"id": "c1", "token": site.TOKEN}, {"id": "c2", "token": "token-of-agent-c2"})
        until(lambda: "c2" in site.server.clusters.clusters, "the second cluster")
        (first,) = site.agent.tunnels
        (site.folder / "sa-c2").write_text("sa-c2")
        account = str(site.folder / "sa-c2")
        second = site.start_agent(token="token-of-agent-c2", token_file=None, sa_token_path=account)
        client = watched.begin(site)
        site.let_in({"id": "c2", "token": "token-of-agent-c2"})
        assert first.ended.wait(LONG)
        # Cut, not completed: the client lists and watches anew.
        with pytest.raises(OSError, match="reset"):
            client.rest()
        refused = site.ask()
        assert (refused.status, refused.header("retry-after")) == (503, "1")
        assert site.ask("c2", account="sa-c2").status == 200
        assert [session.cluster for session in site.server.registry.all()] == ["c2"]
        assert second.connected.is_set()


# Sets that cannot be used


def test_broken_sets_leave_the_last_good_ones_in_use(caplog: pytest.LogCaptureFixture) -> None:
    """Each is reported once within a second or so, though nobody shakes hands, and by no scrape."""
    with Site() as site:
        before = {name: expiry(site.server.metrics, name) for name in ("certificate", "ca")}
        cut = site.agent_files["tls_crt"][:-30]
        site.publish("server", **issued(site.ca, "127.0.0.1") | {"tls_key": b""})
        site.publish("agent", **site.agent_files | {"tls_crt": cut})
        site.publish("api", ca_crt=b"")
        site.publish("token", token=b"two words")
        until(lambda: len(errors(caplog)) == 4, "a report of each", LONG)
        for _ in range(3):
            site.redial()
            assert site.ask().status == 200
        said = errors(caplog)
        assert len(said) == 4
        assert sum("the certificates loaded before stay in use" in line for line in said) == 3
        broken = {"server": "tls.key", "agent": "tls.crt", "api": "ca.crt", "token": "token"}
        for volume, file in broken.items():
            assert any(site.path(volume, file) in line for line in said)
        assert reload_errors(site.server.metrics, "certificates") == 1
        assert reload_errors(site.agent.metrics, "certificates") == 2
        assert reload_errors(site.agent.metrics, "token") == 1
        assert {name: expiry(site.server.metrics, name) for name in before} == before
        fresh = issued(site.ca, "127.0.0.1", not_after=LATER)
        site.publish("server", **fresh)
        assert site.shake(site.agent_files)["serialNumber"] == serial(fresh["tls_crt"])
        assert len(errors(caplog)) == 4


def test_a_volume_that_vanishes_leaves_the_last_good_set_in_use(caplog: pytest.LogCaptureFixture) -> None:
    with Site() as site:
        old = site.shake(site.agent_files)["serialNumber"]
        site.publish("server")
        assert site.shake(site.agent_files)["serialNumber"] == old
        site.publish("agent")
        site.redial()
        assert site.ask().status == 200
        fresh = issued(site.ca, "127.0.0.1")
        site.publish("server", **fresh)
        assert site.shake(site.agent_files)["serialNumber"] == serial(fresh["tls_crt"])
        assert reload_errors(site.server.metrics, "certificates") == 1


def test_no_handshake_in_the_middle_of_a_swap_fails(caplog: pytest.LogCaptureFixture) -> None:
    """A thread of its own swaps every few milliseconds, which is about what loading takes."""
    pause = get_original("time", "sleep")
    with Site() as site:
        pairs = [issued(site.ca, "127.0.0.1") for _ in range(4)]
        site.publish("server", **pairs[0])
        site.shake(site.agent_files)
        stopped: list[bool] = []

        def swap() -> int:
            swaps = 0
            while not stopped:
                swaps += 1
                site.publish("server", **pairs[swaps % len(pairs)])
                pause(0.002)
            return swaps

        swapping = gevent.get_hub().threadpool.spawn(swap)
        try:
            shown = {site.shake(site.agent_files)["serialNumber"] for _ in range(30)}
        finally:
            stopped.append(True)
            swaps = swapping.get(timeout=LONG)
        assert swaps > 30
        assert shown <= {serial(pair["tls_crt"]) for pair in pairs}
        assert site.shake(site.agent_files)["serialNumber"] == serial(pairs[swaps % len(pairs)]["tls_crt"])
        assert not errors(caplog)
        assert reload_errors(site.server.metrics, "certificates") == 0
