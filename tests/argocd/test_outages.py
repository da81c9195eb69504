"""Bad days under applications that are synced: what breaks comes back by itself, and nothing is lost."""

import secrets
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gevent
import pytest

from tests.argocd.harness import objects, rendered
from tests.argocd.harness.argocd import SECRETS, ArgoCD
from tests.argocd.harness.hub import Hub
from tests.argocd.harness.links import Link
from tests.argocd.harness.notifications import Notifications
from tests.argocd.harness.observer import Observer
from tests.argocd.harness.repository import Repository
from tests.chart.helm import Helm
from tests.e2e.harness.cluster import Cluster
from tests.e2e.harness.processes import is_running
from tests.e2e.harness.waiting import until

OUTAGE = 20.0
"""Seconds; long enough for Argo CD's watches to be tried again many times."""
HEALED = 60.0
"""Seconds in which everything must be as before, on a busy machine."""
KEEPALIVE = ("--keepalive=5s", "--keepalive-timeout=15s")
"""As docs/argocd.md advises."""
FINE = {("Synced", "Healthy")}
SUBPROTOCOL = b"Sec-WebSocket-Protocol: argotun.v2\r\n"
MERGE = {"Content-Type": "application/merge-patch+json"}


@dataclass
class Site:
    """An application on a customer's cluster, and the way that leads there."""

    name: str
    argocd: ArgoCD
    cluster: Cluster
    repository: Repository
    server: str
    hub: Hub | None = None
    link: Link | None = None

    def deploy(self) -> None:
        self.repository.objects(f"{self.name}/all.json", *objects.guestbook())
        revision = self.repository.commit(f"Add {self.name}")
        self.argocd.create(objects.application(self.name, self.repository.source(self.name), self.name))
        self.argocd.wait(self.name, revision=revision)

    def observe(self) -> Observer:
        return Observer(self.argocd, self.cluster, self.name)

    def greeting(self) -> str:
        answer = self.cluster.admin.get(self.path)
        return str(answer.json().get("data", {}).get("greeting"))

    def drift(self) -> None:
        """Change the application's configmap behind Argo CD's back."""
        body = objects.configmap("guestbook-config", {"greeting": "drifted"})
        assert self.cluster.admin("PATCH", self.path, body, MERGE).status == 200

    def healed(self, seconds: float = HEALED) -> float:
        """Wait until Argo CD has undone the drift; seconds that it took."""
        started = time.monotonic()
        until("the drift is healed", lambda: self.greeting() == "hello", seconds)
        self.argocd.wait(self.name, seconds)
        return time.monotonic() - started

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.name}/configmaps/guestbook-config"


@pytest.fixture(scope="module")
def broken_hub(clusters: dict[str, Cluster], folder: Path) -> Iterator[Hub]:
    """A server and an agent to be broken, reached by links that can be cut."""
    hub = Hub(folder / "broken-hub", {"breakable": clusters["customer-b"]}, *KEEPALIVE, linked=True)
    try:
        hub.start()
        yield hub
    finally:
        hub.stop()


@pytest.fixture(scope="module")
def through(
    argocd: ArgoCD, broken_hub: Hub, clusters: dict[str, Cluster], repository: Repository, helm: Helm
) -> Site:
    """An application behind the tunnel."""
    secret = rendered.cluster_secret(helm, "breakable", broken_hub.port, broken_hub.tls)
    argocd.management.create(SECRETS, secret)
    server = rendered.server_of(secret)
    site = Site("breakable", argocd, clusters["customer-b"], repository, server, broken_hub)
    site.deploy()
    return site


@pytest.fixture(scope="module")
def direct(argocd: ArgoCD, clusters: dict[str, Cluster], repository: Repository) -> Iterator[Site]:
    """An application on a cluster that Argo CD reaches directly, by a link that can be cut."""
    cluster = clusters["customer-b"]
    link = Link(cluster.api_port)
    secret = rendered.direct_secret("direct", cluster, link.port)
    argocd.management.create(SECRETS, secret)
    site = Site("direct", argocd, cluster, repository, rendered.server_of(secret), link=link)
    try:
        site.deploy()
        yield site
    finally:
        link.close()


@pytest.fixture
def site(through: Site) -> Iterator[Site]:
    """The application behind the tunnel, with everything whole before and after the test."""
    hub = through.hub
    assert hub
    assert hub.outside
    assert hub.inside
    yield through
    for link in (hub.outside, hub.inside):
        link.restore()
    if not hub.server:
        hub.start_server()
    if "breakable" not in hub.agents:
        hub.start_agent("breakable")
    hub.wait("breakable")
    through.argocd.wait("breakable")


def hub_of(site: Site) -> Hub:
    assert site.hub
    return site.hub


def test_an_agent_is_away_for_a_while(site: Site, figures: list[str]) -> None:
    hub = hub_of(site)
    with site.observe() as seen:
        hub.stop_agent("breakable", signal.SIGKILL)
        site.drift()
        gevent.sleep(OUTAGE)
        assert set(seen.states) == FINE  # nobody can know better
        hub.start_agent("breakable")
        took = site.healed()
    assert not seen.gone
    figures.append(seen.report(f"agent away for {OUTAGE:g} s", took))


def test_the_same_outage_without_a_tunnel(direct: Site, figures: list[str]) -> None:
    assert direct.link
    with direct.observe() as seen:
        direct.link.cut()
        direct.drift()
        gevent.sleep(OUTAGE)
        direct.link.restore()
        took = direct.healed()
    assert not seen.gone
    figures.append(seen.report(f"direct, API out of reach for {OUTAGE:g} s", took))


def test_a_commit_during_an_outage_is_deployed_after_it(site: Site, figures: list[str]) -> None:
    hub = hub_of(site)
    with site.observe() as seen:
        hub.stop_agent("breakable", signal.SIGKILL)
        gevent.sleep(2)
        took = commit_and_wait(site, lambda: hub.start_agent("breakable"))
    assert not seen.gone
    assert not any(health == "Missing" for _, health in seen.states)
    figures.append(seen.report(f"agent away for {OUTAGE:g} s, with a commit", took))


def test_the_same_commit_without_a_tunnel(direct: Site, figures: list[str]) -> None:
    assert direct.link
    with direct.observe() as seen:
        direct.link.cut()
        gevent.sleep(2)
        took = commit_and_wait(direct, direct.link.restore)
    figures.append(seen.report(f"direct, API out of reach for {OUTAGE:g} s, with a commit", took))


def commit_and_wait(site: Site, end_outage: Callable[[], None]) -> float:
    """Commit a change, end the outage after its time; seconds from there until the change is deployed."""
    stamp = f"at {time.monotonic():.3f}"
    items = [*objects.guestbook(), objects.configmap("guestbook-extra", {"stamp": stamp})]
    site.repository.objects(f"{site.name}/all.json", *items)
    revision = site.repository.commit("Change during an outage")
    site.argocd.refresh(site.name)
    gevent.sleep(OUTAGE - 2)
    end_outage()
    started = time.monotonic()
    site.argocd.wait(site.name, seconds=2 * HEALED, revision=revision)
    return time.monotonic() - started


def test_a_server_crashes(site: Site, figures: list[str]) -> None:
    hub = hub_of(site)
    with site.observe() as seen:
        hub.stop_server(signal.SIGKILL)
        site.drift()
        gevent.sleep(5)
        hub.start_server()
        took = site.healed()
    assert not seen.gone
    assert not any(health == "Missing" for _, health in seen.states)
    figures.append(seen.report("server killed, and started after 5 s", took))


def test_a_server_is_replaced_by_another(site: Site, figures: list[str]) -> None:
    hub = hub_of(site)
    assert hub.server
    assert hub.outside
    assert hub.inside
    old, new = hub.server, hub.start_second_server()
    with site.observe() as seen:
        # As a Service does: new connections go to the pod that is ready, the old ones stay where they are.
        hub.outside.target, hub.inside.target = new.public, new.internal
        for process in old.processes:
            process.send(signal.SIGTERM)
        site.drift()
        took = site.healed()
        until(
            "the old server has ended",
            lambda: not any(is_running(process.pid) for process in old.processes),
            seconds=40,
        )
        gevent.sleep(2)
    hub.server = new
    assert not seen.gone
    assert not any(health == "Missing" for _, health in seen.states)
    figures.append(seen.report("server replaced by another one", took))
    assert seen.error_lines == 0, seen.errors


def test_an_agent_is_replaced_by_another(site: Site, figures: list[str]) -> None:
    hub = hub_of(site)
    with site.observe() as seen:
        old = hub.agents.pop("breakable")
        hub.start_agent("breakable")
        until("the new agent has the tunnel", lambda: hub.agent_is_ready("breakable"))
        site.drift()
        took = site.healed()
        old.stop(seconds=40)
        gevent.sleep(2)
    assert not seen.gone
    assert not any(health == "Missing" for _, health in seen.states)
    figures.append(seen.report("agent replaced by another one", took))
    assert seen.error_lines == 0, seen.errors


def test_the_api_restarts(site: Site, figures: list[str]) -> None:
    with site.observe() as seen:
        site.cluster.stop_apiserver()
        gevent.sleep(2)
        site.cluster.start_apiserver()
        site.drift()
        took = site.healed()
    assert not seen.gone
    figures.append(seen.report("API killed, and started after 2 s", took))


def test_the_network_goes_silent(site: Site, figures: list[str]) -> None:
    """A path that loses everything without a word: the agent finds out by its PINGs, and dials anew."""
    hub = hub_of(site)
    assert hub.outside
    with site.observe() as seen:
        hub.outside.freeze(old_only=True)
        site.drift()
        took = site.healed(seconds=120)
    assert not seen.gone
    figures.append(seen.report("tunnel silent for good, a new one possible", took))


@pytest.fixture
def older(
    argocd: ArgoCD, clusters: dict[str, Cluster], repository: Repository, helm: Helm, folder: Path
) -> Iterator[Site]:
    """An application behind server and agent that find no common subprotocol, as with an older release."""
    cluster = clusters["customer-b"]
    hub = Hub(folder / "older-hub", {"older": cluster}, tls=False, linked=True, version_1=True)
    assert hub.outside
    hub.outside.without = SUBPROTOCOL
    try:
        hub.start()
        secret = rendered.cluster_secret(helm, "older", hub.port, None)
        argocd.management.create(SECRETS, secret)
        site = Site("older", argocd, cluster, repository, rendered.server_of(secret), hub)
        site.deploy()
        yield site
        argocd.delete("older")
        argocd.management.admin("DELETE", f"{SECRETS}/{secret['metadata']['name']}")
    finally:
        hub.stop()


def test_an_agent_of_version_1_becomes_one_of_version_2_and_back(older: Site, figures: list[str]) -> None:
    hub = hub_of(older)
    assert hub.outside
    assert hub.sessions("older")[0]["version"] == 1
    with older.observe() as seen:
        for version, without in ((2, b""), (1, SUBPROTOCOL)):
            hub.outside.without = without
            hub.stop_agent("older")
            hub.start_agent("older")
            hub.wait("older")
            assert hub.sessions("older")[0]["version"] == version
            older.drift()
            took = older.healed()
    assert not seen.gone
    assert not any(health == "Missing" for _, health in seen.states)
    figures.append(seen.report("agent from version 1 to 2 and back", took))


def test_a_token_of_the_tunnel_is_rotated(site: Site) -> None:
    hub = hub_of(site)
    with site.observe() as seen:
        fresh = secrets.token_urlsafe(32)
        hub.tokens["breakable"].append(fresh)
        hub.write_clusters()
        hub.give_agent_token("breakable", fresh)
        del hub.tokens["breakable"][0]
        before = hub.sessions("breakable")[0]["peer"]
        hub.write_clusters()

        def renewed() -> bool:
            sessions = hub.sessions("breakable")
            return bool(sessions) and sessions[0]["peer"] != before

        until("the agent has come back with the new token", renewed)
        site.drift()
        site.healed()
    assert not seen.gone
    assert seen.error_lines == 0, seen.errors


def test_the_accounts_token_is_rotated(site: Site) -> None:
    with site.observe() as seen:
        hub_of(site).give_account_token("breakable")
        site.drift()
        site.healed()
    assert not seen.gone
    assert seen.error_lines == 0, seen.errors


def test_argo_cd_shows_a_lost_cluster_once_it_is_asked_to_look(
    site: Site, figures: list[str], tmp_path: Path
) -> None:
    hub, argocd = hub_of(site), site.argocd
    until("the cluster is known", lambda: argocd.connection(site.server)["state"] == "Successful", every=0.5)
    with site.observe() as seen:
        hub.stop_agent("breakable", signal.SIGKILL)
        gevent.sleep(12)  # a round of Argo CD's own update, and more
        assert argocd.connection(site.server)["state"] == "Successful"
        assert set(seen.states) == FINE
        kind = {"Content-Type": "application/json"}
        where = f"/api/v1/clusters/{quote(site.server, safe='')}/invalidate-cache"
        asked = time.monotonic()
        assert argocd.api("POST", where, {}, kind).status == 200
        argocd.refresh(site.name)

        def failed() -> dict[str, Any]:
            info = argocd.connection(site.server)
            return info if info["state"] == "Failed" else {}

        info = until("Argo CD shows the loss", failed, seconds=120, every=0.5)
        shown = time.monotonic() - asked
        assert "argotun: no agent of cluster" in info["connectionState"]["message"], info
        notifications = Notifications(argocd.program.argocd, tmp_path)
        told = until(
            "a notification of it",
            lambda: (app := argocd.get(site.name)) and notifications.triggered(app) and app,
            every=1,
        )
        assert "argotun: no agent of cluster" in notifications.written(told)
        hub.start_agent("breakable")
        started = time.monotonic()
        until("a refresh finds it again", lambda: refreshed(site) == FINE, 120, every=1)
        took = time.monotonic() - started
    assert not notifications.triggered(argocd.get(site.name))
    assert not seen.gone
    assert not any(health == "Missing" for _, health in seen.states)
    figures.append(seen.report(f"invalidated while the agent was away, shown after {shown:.1f} s", took))


def refreshed(site: Site) -> set[tuple[str, str]]:
    """The application's state, after a nudge such as Argo CD gives itself every few minutes."""
    site.argocd.refresh(site.name)
    gevent.sleep(1)
    return {site.argocd.state(site.name)}
