"""A server's check where it is one of several: a real Redis, and a replica that lives there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from argotun.config import ServerConfig
from argotun.config.network import parse_registry
from argotun.server.app import Server
from bench.ports import free_port
from tests.check.walked import Walked, walked
from tests.redis_server import RedisServer
from tests.rig import Authority, until

PEER = "argotun-peer"


class Site:
    """One replica that serves, and what another one would be told."""

    def __init__(self, folder: Path) -> None:
        self.redis = RedisServer(folder / "redis")
        (folder / "peers").mkdir()
        (folder / "agents").mkdir()
        self.peers = Authority(folder / "peers")
        self.peers.issue("peer", PEER)
        self.agents = Authority(folder / "agents")
        self.server = Server(self.config())
        self.server.start()
        until(lambda: len(self.members()) == 1, "the replica in the registry")

    def members(self) -> list[Any]:
        with self.redis.client() as client:
            found: list[Any] = client.zrange("{argotun}:members", 0, -1)
            return found

    def config(self, **options: Any) -> ServerConfig:
        values: dict[str, Any] = {
            "clusters": '[{"id": "c1", "tokenSha256": "' + "ab" * 32 + '"}]',
            "addr": ("127.0.0.1", 0),
            "internal_addr": ("127.0.0.1", 0),
            "tls_cert": self.agents.path("server.pem"),
            "tls_key": self.agents.path("server.key"),
            "tls_client_ca": self.agents.path("ca.pem"),
            "peer_addr": ("127.0.0.1", 0),
            "peer_cert": self.peers.path("peer.pem"),
            "peer_key": self.peers.path("peer.key"),
            "peer_ca": self.peers.path("ca.pem"),
            "registry": parse_registry(self.redis.url),
            "access_log": False,
        }
        return ServerConfig(**(values | options))

    def close(self) -> None:
        self.server.stop()
        self.redis.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.close()


def check(site: Site, capsys: pytest.CaptureFixture[str], **options: Any) -> Walked:
    return walked("server", site.config(**options), capsys)


def peer(found: Walked) -> dict[str, str]:
    return next(each for each in found.steps if each["step"].startswith("peer "))


def test_the_registry_and_the_other_replica_are_walked_to(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    found = check(site, capsys)
    assert found.failed == []
    assert "1 other replica lives there" in found.of("registry")["says"]
    assert "answers, and its certificate ends on 3000-01-01" in peer(found)["says"]
    assert {"port.peer", "certificates.peer-own", "certificates.peer-ca"} <= set(found.names)
    assert site.server.membership is not None
    assert len(site.members()) == 1


def test_a_registry_that_is_away_fails(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.redis.kill()
    found = check(site, capsys)
    assert found.failed == ["registry"]
    assert "--registry" in found.of("registry")["todo"]


def test_a_wrong_password_fails_and_is_shown_nowhere(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    with site.redis.client() as client:
        client.config_set("requirepass", "the-right-one-of-two")
    url = site.redis.url.replace("redis://", "redis://:the-wrong-one-of-two@")
    found = check(site, capsys, registry=parse_registry(url))
    assert found.failed == ["registry"]
    assert "of-two" not in repr(found.steps)


def test_a_replica_that_shows_another_name_fails(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    found = check(site, capsys, peer_name="another-peer")
    assert found.failed == [peer(found)["step"]]
    assert "Hostname mismatch" in peer(found)["says"]
    assert "--peer-name" in peer(found)["todo"]


def seeds(site: Site) -> tuple[str, int]:
    """A name with one address, that of the replica that serves."""
    assert site.server.membership is not None
    return "localhost", site.server.membership.address[1]


def test_a_seed_that_the_registry_names_is_dialled_once(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    name = seeds(site)
    found = check(site, capsys, peer_seeds=name)
    assert found.failed == []
    says = f"addresses of localhost:{name[1]}: 1; of replicas in the registry: 1"
    assert found.of("seeds")["says"] == says
    assert found.names.count(f"peer 127.0.0.1:{name[1]}") == 1


def test_a_seed_is_walked_to_while_the_registry_is_away(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.redis.kill()
    found = check(site, capsys, peer_seeds=seeds(site))
    assert found.failed == ["registry"]
    assert "a replica answers, and its certificate ends on 3000-01-01" in peer(found)["says"]


def test_a_seed_where_nobody_answers_is_a_warning(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Who had that address may have ended."""
    found = check(site, capsys, peer_seeds=("localhost", free_port()))
    assert found.failed == []
    steps = [each for each in found.steps if each["step"].startswith("peer ")]
    assert [each["result"] for each in steps] == ["ok", "warning"]


def test_a_name_of_seeds_that_is_not_resolved_is_a_warning(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    found = check(site, capsys, peer_seeds=("nobody.invalid", 8444))
    assert found.failed == []
    assert found.of("seeds")["result"] == "warning"


def test_a_ca_of_agents_too_fails(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    found = check(site, capsys, tls_client_ca=site.peers.path("ca.pem"))
    assert "server" in found.failed
    assert "a CA for replicas only" in found.of("server")["says"]
