"""Who may call at the internal port, and what: certificates, tokens, the callers file, what agents hear."""

import json
import os
import ssl
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import gevent
import pytest
import trustme
from cryptography import x509
from gevent import socket
from gevent import ssl as gevent_ssl
from prometheus_client import CollectorRegistry

from argotun.errors import ConfigError
from argotun.observe.metrics import ServerMetrics
from argotun.observe.request import Request
from argotun.server import app
from argotun.server.callers import Callers
from argotun.server.clusters import ClustersFile
from tests.rig import Api, Peer, Rig, Script, until

TOKEN = "what-the-dashboard-shows"
SHA256 = sha256(TOKEN.encode()).hexdigest()
BEARER = f"Authorization: Bearer {TOKEN}\r\n".encode()
PODS = "/tunnel/c1/api/v1/pods"
WATCH = f"{PODS}?watch=1"


def recording(heads: list[bytes]) -> Script:
    """Keep each head that reaches the API; a watch is begun and never ended."""

    def script(peer: Peer) -> None:
        while True:
            head = peer.head()
            heads.append(head)
            if b"watch=1" in head:
                peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")
                peer.rest()
                return
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    return script


class Site(Rig):
    """A rig whose internal port has TLS; `heads` are those that its API was asked by."""

    def __init__(self, callers: list[dict[str, Any]] | None = None, **options: Any) -> None:
        self.heads: list[bytes] = []
        self.said: list[tuple[str, Request]] = []
        super().__init__(Api(recording(self.heads)), **options)
        self._server_options = {"internal_plain": False, **self._server_options}
        if callers is not None:
            self.write_callers(callers)
            self._server_options["callers"] = str(self.folder / "callers.json")

    def start_server(self, **options: Any) -> app.Server:
        """The server, with its access lines in `said`."""
        server = super().start_server(**options)
        server.clients._report = lambda request: self.said.append(("server", request))
        return server

    def start_agent(self, **options: Any) -> Any:
        """An agent, with its access lines in `said`."""
        agent = super().start_agent(**options)
        agent._report = lambda request: self.said.append(("agent", request))
        return agent

    def write_callers(self, entries: object) -> None:
        """Replace the callers file as one step."""
        fresh = self.folder / "callers.new"
        fresh.write_text(entries if isinstance(entries, str) else json.dumps(entries))
        os.replace(fresh, self.folder / "callers.json")

    def issue(self, *identities: str, name: str = "someone", **more: Any) -> str:
        """A certificate of the rig's CA for these names."""
        self.authority.issue(name, *identities, **more)
        return name

    def as_caller(self, name: str | None) -> Peer:
        """A connection with that certificate, or with none."""
        context = gevent_ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.authority.path("ca.pem"))
        if name is not None:
            context.load_cert_chain(self.authority.path(f"{name}.pem"), self.authority.path(f"{name}.key"))
        plain = socket.create_connection(self.server.internal_address)
        return self.keep(
            Peer(context.wrap_socket(plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False))
        )

    def status(self, name: str | None, path: str = PODS, extra: bytes = b"") -> int:
        """Of one GET with that certificate; a refusal's words are argotun's and in a Status."""
        answer = self.get(path, extra, self.as_caller(name))
        if answer.status != 200:
            assert answer.json()["kind"] == "Status", answer.body
            assert answer.json()["message"].startswith("argotun: "), answer.body
            assert answer.header("retry-after") is None
        return answer.status

    def fields(self, name: str) -> list[bytes]:
        """Of that name in the head that the API was asked by last."""
        lines = self.heads[-1].split(b"\r\n")[1:]
        return [
            value.strip()
            for key, _, value in (line.partition(b":") for line in lines)
            if key.decode() == name
        ]


@pytest.fixture(scope="module")
def listed() -> Iterator[Site]:
    """A site without a callers file."""
    with Site(cluster={"certNames": ["agent.example"]}) as site:
        yield site


# ── by name ────────────────────────────────────────────────────────────────────────────────────


def test_argocds_certificate_may_call(listed: Site) -> None:
    assert listed.status("argocd") == 200
    assert listed.status("argocd", "/status") == 200
    assert listed.status("argocd", "/metrics") == 200


@pytest.mark.parametrize(
    "path", [PODS, "/tunnel/unknown/api/v1/pods", "/", "/status", "/metrics", "/nothing"]
)
def test_an_agents_certificate_gets_503(listed: Site, path: str) -> None:
    before = len(listed.heads)
    assert listed.status("agent", path) == 503
    assert len(listed.heads) == before


def test_discovery_is_refused_in_words_that_people_see(listed: Site) -> None:
    answer = listed.get("/tunnel/c1/version", client=listed.as_caller("agent"))
    assert (answer.status, answer.header("content-type")) == (502, "text/plain; charset=utf-8")
    assert b"an agent's" in answer.body


@pytest.mark.parametrize(
    ("identities", "more"),
    [
        ((), {"common_name": "someone"}),
        ((), {"common_name": "ARGOCD"}),
        ((), {"common_name": "argocd "}),
        ((), {"common_name": "\u212argocd"}),
        (("argocd@example.com",), {"common_name": "argocd"}),
        (("other.example",), {"common_name": "argocd"}),
        (("10.0.0.1",), {"common_name": "argocd"}),
        (("*.argocd",), {}),
    ],
)
def test_a_name_that_is_not_listed_gets_503(listed: Site, identities: tuple[str, ...], more: Any) -> None:
    assert listed.status(listed.issue(*identities, **more)) == 503


def test_dns_names_are_compared_without_case(listed: Site) -> None:
    assert listed.status(listed.issue("ARGOCD", "other.example")) == 200


def test_an_agents_name_never_calls_even_if_it_is_a_callers() -> None:
    entry = {"name": "agent.example", "clusters": "*"}
    for options in (
        {"server": {"internal_client_names": ("agent.example",)}},
        {"callers": [entry, {"name": "d", "tokenSha256": SHA256, "clusters": "*"}]},
    ):
        with Site(cluster={"certNames": ["agent.example"]}, **options) as site:  # type: ignore[arg-type]
            assert site.status("agent", extra=BEARER) == 503
            site.write_clusters([{"id": "c1", "token": site.TOKEN, "certNames": ["agent.example", "argocd"]}])
            until(lambda site=site: site.status("argocd") == 503, "the refusal")


def test_callers_may_have_a_ca_of_their_own() -> None:
    other = trustme.CA()
    site = Site()
    path = site.folder / "callers-ca.pem"
    other.cert_pem.write_to_path(str(path))
    site._server_options["internal_client_ca"] = str(path)
    with site:
        with pytest.raises((OSError, EOFError)):
            site.get(client=site.as_caller("argocd"))
        site.authority.ca, ours = other, site.authority.ca
        site.issue(name="argocd", common_name="argocd")
        site.authority.ca = ours
        assert site.status("argocd") == 200
        assert site.heads


def broken_files(rig: Rig) -> float:
    text = rig.server.metrics.exposition()[0].decode()
    return float(text.split('argotun_reload_errors_total{what="certificates"} ')[1].split()[0])


def test_a_broken_ca_of_callers_is_told_before_anybody_comes() -> None:
    """By the server's own look, once a second, and not by a scrape or a handshake."""
    site = Site(agent=None)
    path = site.folder / "callers-ca.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    site._server_options["internal_client_ca"] = str(path)
    with site:
        watched, own = site.server.metrics._certificates
        path.write_text("not a certificate")
        until(lambda: own.errors == 1, "the error")
        assert watched.errors == 0
        assert broken_files(site) == 1


def test_a_broken_file_that_both_ports_use_counts_once() -> None:
    site = Site(agent=None)
    site._server_options["internal_client_ca"] = site.authority.path("ca.pem")
    with site:
        for number, name in enumerate(("server.pem", "server.key"), 1):
            path = site.folder / name
            whole = path.read_bytes()
            path.write_text("broken")
            until(lambda number=number: broken_files(site) == number, "the error")
            # What is read again at a scrape is both sets.
            assert broken_files(site) == number
            path.write_bytes(whole)


# ── the callers file ───────────────────────────────────────────────────────────────────────────

ALL = {"name": "argocd", "clusters": "*", "mayImpersonate": True}
DASHBOARD = {"name": "dashboard", "tokenSha256": SHA256, "clusters": "*", "readOnly": True}


def test_a_spiffe_id_is_a_callers_name() -> None:
    with Site([{"name": "spiffe://example.org/ns/argocd", "clusters": "*"}]) as site:
        assert site.status("argocd") == 503
        for uri, status in (("spiffe://example.org/ns/argocd", 200), ("spiffe://example.org/ns/ARGOCD", 503)):
            assert site.status(issue_uri(site, uri)) == status


def issue_uri(site: Site, uri: str) -> str:
    """A certificate with that URI; trustme makes none by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trustme, "_identity_string_to_x509", x509.UniformResourceIdentifier)
        return site.issue(uri)


def test_a_token_calls_without_a_certificate_and_only_reads() -> None:
    with Site([ALL, DASHBOARD]) as site:
        assert site.status(None, extra=BEARER) == 200
        assert site.status(None) == 503
        assert site.status(None, extra=b"Authorization: Bearer another\r\n") == 503
        assert site.status(None, extra=BEARER * 2) == 503
        assert site.status(site.issue("other.example"), extra=BEARER) == 200
        assert {request.caller for who, request in site.said if who == "agent"} == {"dashboard"}
        assert b"dashboard" not in b"".join(site.heads)


def test_a_kept_connection_is_whoever_its_request_says() -> None:
    with Site([ALL, DASHBOARD]) as site:
        client = site.as_caller(None)
        assert [site.get(client=client, extra=each).status for each in (BEARER, b"", BEARER)] == [
            200,
            503,
            200,
        ]
        assert site.server.metrics.caller("dashboard").requests == 2


def test_a_certificate_is_needed_while_no_caller_has_a_token() -> None:
    with Site([ALL]) as site:
        with pytest.raises((OSError, EOFError)):
            site.get(client=site.as_caller(None), extra=BEARER)
        site.write_callers([ALL, DASHBOARD])
        until(lambda: site.server.callers.takes_tokens, "the new file")
        assert site.status(None, extra=BEARER) == 200


def test_a_token_over_plain_http_is_not_accepted() -> None:
    with Site([ALL, DASHBOARD], server={"internal_plain": True}) as site:
        assert site.get(extra=BEARER).status == 503
        assert not site.heads


def test_clusters_are_named_by_id_and_by_label() -> None:
    entries = [
        {"name": "by-id", "clusters": ["c2"]},
        {"name": "by-label", "clusters": {"labels": {"stage": "test"}}},
    ]
    with Site(entries, cluster={"labels": {"stage": "test", "eu": ""}}) as site:
        for name in ("by-id", "by-label"):
            site.issue(name=name, common_name=name)
        assert site.status("by-id") == 503
        assert site.status("by-label") == 200
        assert site.status("by-label", "/tunnel/c3/api/v1/pods") == 503
        assert site.status("by-label", "/status") == 503
        assert site.status("by-label", "/status", b"Accept: text/html\r\n") == 503
        assert site.status("by-label", "/metrics") == 503
        kept = site.as_caller("by-label")
        assert site.get(client=kept).status == 200
        version = site.server.callers.version
        site.write_clusters([{"id": "c1", "token": site.TOKEN, "labels": {"stage": "prod"}}])
        until(lambda: site.server.callers.version is not version, "the new labels")
        assert site.get(client=kept).status == 503


READING = [
    "GET /api/v1/pods",
    "HEAD /api/v1/pods",
    "OPTIONS /api/v1",
    "GET /api/v1/namespaces/n/pods/exec/log",
]
WRITING = [
    *(f"{method} /api/v1/pods" for method in ("POST", "PUT", "PATCH", "DELETE")),
    *(
        f"GET /api/v1/namespaces/n/pods/p/{each}"
        for each in ("exec?command=sh", "attach", "portforward", "proxy/x")
    ),
    "GET /api/v1/namespaces/n/pods/p/%65xec",
    "GET //api//v1/namespaces/n/pods/p//exec",
    "GET /api/v1/namespaces/n/pods/x/../p/exec",
    "GET /api/v1/namespaces/n%2Fpods/p/exec",
    "GET /api/v1/nodes/n/proxy/run",
    "GET /api/v1/proxy/nodes/n",
    "GET /apis/subresources.kubevirt.io/v1/namespaces/n/virtualmachines/v/portforward",
]


def test_a_read_only_caller_reads_and_does_nothing_else() -> None:
    with Site([{"name": "argocd", "clusters": "*", "readOnly": True}]) as site:
        client = site.as_caller("argocd")

        def ask(line: str, extra: str = "") -> int:
            method, target = line.split()
            client.send(f"{method} /tunnel/c1{target} HTTP/1.1\r\nHost: a\r\n{extra}\r\n".encode())
            return client.response(method).status

        assert {line: ask(line) for line in READING} == dict.fromkeys(READING, 200)
        before = len(site.heads)
        assert {line: ask(line) for line in WRITING} == dict.fromkeys(WRITING, 503)
        assert ask(READING[0], "Connection: Upgrade\r\nUpgrade: websocket\r\n") == 503
        assert len(site.heads) == before


# ── impersonation ──────────────────────────────────────────────────────────────────────────────

SMUGGLED = [
    b"Impersonate-User: x\r\n",
    b"impersonate-GROUP: system:masters\r\n",
    b"Impersonate-Extra-Scopes: x\r\n",
    b"Impersonate_User: x\r\n",
    b"Connection: Impersonate-User\r\nImpersonate-User: x\r\n",
]


def test_a_caller_without_the_right_impersonates_in_no_spelling() -> None:
    acting = {"user": "ci", "groups": ["deployers", "a,b"]}
    for entry in (
        {"name": "argocd", "clusters": "*"},
        {"name": "argocd", "clusters": "*", "impersonate": acting},
    ):
        with Site([entry]) as site:
            for each in SMUGGLED:
                assert site.get(extra=each, client=site.as_caller("argocd")).status in (400, 503)
            client = site.as_caller("argocd")
            client.send(
                b"POST /tunnel/c1/api HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"0\r\nImpersonate-User: x\r\n\r\n"
            )
            assert client.ended() in ("closed", "reset")
            assert not any(b": x" in head for head in site.heads)
            assert site.status("argocd") == 200
            acts = "impersonate" in entry
            assert site.fields("Impersonate-User") == [b"ci"] * acts
            assert site.fields("Impersonate-Group") == [b"deployers", b"a,b"] * acts


def test_a_caller_with_the_right_impersonates() -> None:
    with Site([ALL]) as site:
        assert site.status("argocd", extra=SMUGGLED[0]) == 200
        assert site.fields("Impersonate-User") == [b"x"]


def test_without_a_callers_file_impersonation_passes(listed: Site) -> None:
    assert listed.status("argocd", extra=SMUGGLED[0]) == 200
    assert listed.fields("Impersonate-User") == [b"x"]


# ── while it runs ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "after",
    [[], [{**ALL, "clusters": ["c2"]}], [{**ALL, "readOnly": True}], [{**ALL, "mayImpersonate": False}]],
    ids=["removed", "another cluster", "read only", "no impersonation"],
)
def test_what_is_taken_from_a_caller_ends_what_is_in_progress(after: list[dict[str, Any]]) -> None:
    with Site([ALL]) as site:
        watcher, kept = site.as_caller("argocd"), site.as_caller("argocd")
        watcher.send(f"GET {WATCH} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        watcher.until(b"{}")
        assert site.get(client=kept).status == 200
        site.write_callers([*after, DASHBOARD])
        assert watcher.ended() == "reset"
        smuggled = site.get(client=kept, extra=SMUGGLED[0])
        expected = 200 if after and after[0].get("readOnly") else 503
        assert smuggled.status == expected


def test_another_callers_change_ends_nothing() -> None:
    with Site([ALL]) as site:
        watcher = site.as_caller("argocd")
        watcher.send(f"GET {WATCH} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        watcher.until(b"{}")
        site.write_callers([{"name": "other", "clusters": []}, {**ALL, "clusters": ["c1"]}])
        until(lambda: "other" in site.server.callers.names, "the new file")
        gevent.sleep(0)
        assert not site.server.clients.connections.pop().exchange.idle


def test_a_broken_callers_file_leaves_the_last_good_one() -> None:
    with Site([ALL]) as site:
        site.write_callers('[{"name": "other", "cluster": "*"}]')
        until(lambda: b'what="callers"} 1' in site.server.metrics.exposition()[0], "the error")
        assert site.status("argocd") == 200


def test_each_callers_connections_are_limited() -> None:
    with Site([ALL, DASHBOARD], server={"max_connections_per_caller": 2}) as site:
        first, second, third = (site.as_caller("argocd") for _ in range(3))
        assert [site.get(client=each).status for each in (first, second, third)] == [200, 200, 503]
        assert site.status(None, extra=BEARER) == 200
        first.close()
        until(lambda: site.get(client=third).status == 200, "the place that has become free")


# ── who hears of it ────────────────────────────────────────────────────────────────────────────


def test_both_access_lines_metrics_and_status_say_who(listed: Site) -> None:
    listed.said.clear()
    refused = listed.server.metrics.caller("").refused
    assert listed.status("argocd") == 200
    assert listed.status("agent") == 503
    until(lambda: len(listed.said) == 3, "the lines")
    assert sorted((who, r.caller, r.status) for who, r in listed.said) == [
        ("agent", "argocd", 200),
        ("server", "agent.example", 503),
        ("server", "argocd", 200),
    ]
    text = listed.server.metrics.exposition()[0].decode()
    assert f'argotun_caller_refused_total{{caller="none"}} {refused + 1}' in text
    assert 'argotun_caller_requests_total{caller="argocd"}' in text
    assert "agent.example" not in text
    said = listed.get("/status", client=listed.as_caller("argocd")).json()
    assert said["callers"]["argocd"]["connections"] >= 1
    assert said["callers"]["none"]["refused"] == refused + 1


def test_no_clients_word_about_the_caller_reaches_agent_or_api(listed: Site) -> None:
    listed.said.clear()
    for forged in (
        b"Argotun-Caller: root\r\n",
        b"argotun-caller: a\r\nArgotun-Caller: b\r\n",
        b"Argotun_Caller: c\r\n",
    ):
        assert listed.status("argocd", extra=forged) == 200
        assert b"caller" not in listed.heads[-1].lower()
    until(lambda: len([1 for who, _ in listed.said if who == "agent"]) == 3, "the agent's lines")
    assert {request.caller for _, request in listed.said} == {"argocd"}


def test_the_health_port_tells_nothing_of_each_cluster() -> None:
    with Rig(server={"health_addr": ("127.0.0.1", 0)}) as rig:
        assert rig.server._health is not None
        client = rig.keep(Peer(socket.create_connection(rig.server._health.address)))
        answer = rig.get("/status", client=client)
        assert answer.json()["agents"] == 1
        assert b"127.0.0.1" not in answer.body
        assert b"c1" not in answer.body


def test_an_empty_file_is_no_list_of_callers(tmp_path: Path) -> None:
    file = tmp_path / "callers.json"
    file.touch()
    stats = ServerMetrics(CollectorRegistry()).caller
    callers = Callers(str(file), ("argocd",), ClustersFile("[]"), stats, asked=True, bound=True, limit=0)
    with pytest.raises(ConfigError, match="expected a list of callers"):
        callers.load()
