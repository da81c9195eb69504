"""The registry by all the ways that lead to one: passwords, ACL, TLS, Unix socket, Sentinel, Cluster."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme

from argotun.config import ServerConfig
from argotun.config.network import parse_registry
from argotun.errors import ConfigError
from argotun.replicas.engine import Engine
from bench.ports import free_port
from tests.redis_server import RedisServer, Sentinel
from tests.registry.conftest import Member, Party
from tests.rig import until
from tests.secrecy import watch

ACL = (
    "~{argotun}:* &{argotun}:* +@connection +evalsha +eval +script|load +hset +hget +hdel +hlen +hgetall "
    "+del +pexpire +zadd +zrem +zrangebyscore +zremrangebyscore +publish +subscribe +time"
)
"""What docs/replicas.md gives our user."""

Make = Callable[..., Any]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Starts what is closed at the end: `make(RedisServer, "name", …)`, `make(Party, url, …)`."""
    with ExitStack() as stack:

        def start(kind: type[Any], first: str, *more: Any, **options: Any) -> Any:
            made = kind(first if kind is Party else tmp_path / first, *more, **options)
            stack.callback(made.close)
            return made

        yield start


def meet(party: Party) -> tuple[Member, Member]:
    a, b = party.join("x"), party.join("y")
    party.settle()
    return a, b


def test_a_user_with_few_rights_is_enough(make: Make) -> None:
    redis = make(RedisServer, "redis")
    with redis.client() as client:
        client.execute_command("ACL", "SETUSER", "argo", "on", ">s3cr3t-word", *ACL.split())
        client.execute_command("CONFIG", "SET", "requirepass", "an0ther")
    watch.hold("s3cr3t-word")
    meet(make(Party, f"redis://argo:s3cr3t-word@127.0.0.1:{redis.port}"))


def test_a_password_file_is_read_at_each_connection(make: Make, tmp_path: Path) -> None:
    redis = make(RedisServer, "redis")
    file = tmp_path / "password"
    file.write_text("first-s3cr3t\n")
    watch.hold("first-s3cr3t", "second-s3cr3t")
    with redis.client() as client:
        client.config_set("requirepass", "first-s3cr3t")
        party = make(Party, redis.url, registry_password_file=str(file))
        a, _ = meet(party)
        client.config_set("requirepass", "second-s3cr3t")
        for kind in ("normal", "pubsub"):
            client.client_kill_filter(_type=kind, skipme=True)
        until(lambda: a.shared.errors["write"] and a.shared.errors["read"])
        file.write_text("second-s3cr3t")
        party.settle()


def test_a_password_file_that_is_gone_at_start_is_the_users_mistake(tmp_path: Path) -> None:
    config = ServerConfig(
        registry=parse_registry("redis://127.0.0.1"), registry_password_file=str(tmp_path / "none")
    )
    with pytest.raises(ConfigError, match="--registry-password-file"):
        Engine(config)


def test_a_password_may_stand_in_the_url_and_is_shown_nowhere(make: Make) -> None:
    redis = make(RedisServer, "redis")
    with redis.client() as client:
        client.config_set("requirepass", "s3cr3t/word")
    watch.hold("s3cr3t")
    url = parse_registry(f"redis://:s3cr3t%2Fword@127.0.0.1:{redis.port}/0")
    assert "s3cr3t" not in repr(url) + url.show("(hidden)")
    assert not redis.answers()
    meet(make(Party, f"redis://:s3cr3t%2Fword@127.0.0.1:{redis.port}/0"))


def test_a_database_of_its_own_may_be_named(make: Make) -> None:
    redis = make(RedisServer, "redis")
    meet(make(Party, redis.url + "/3"))
    with redis.client() as client:
        assert client.dbsize() == 0


def test_a_unix_socket_is_a_registry(make: Make, tmp_path: Path) -> None:
    make(RedisServer, "redis", "--unixsocket", str(tmp_path / "s"))
    meet(make(Party, f"unix://{tmp_path}/s"))


class TlsRedis(RedisServer):
    """Speaks TLS at `tls_port`, and wants a client's certificate."""

    def __init__(self, folder: Path, ca: trustme.CA) -> None:
        folder.mkdir()
        pem = folder / "server.pem"
        issued = ca.issue_cert("127.0.0.1", "localhost")
        pem.write_bytes(issued.private_key_pem.bytes() + b"".join(c.bytes() for c in issued.cert_chain_pems))
        ca.cert_pem.write_to_path(str(folder / "ca.pem"))
        self.tls_port = free_port()
        files = ("--tls-cert-file", str(pem), "--tls-key-file", str(pem))
        super().__init__(
            folder, "--tls-port", str(self.tls_port), *files, "--tls-ca-cert-file", str(folder / "ca.pem")
        )


def test_tls_verifies_both_sides(make: Make, tmp_path: Path) -> None:
    ca = trustme.CA()
    redis = make(TlsRedis, "redis", ca)
    pem = tmp_path / "client.pem"
    issued = ca.issue_cert("argotun")
    pem.write_bytes(issued.private_key_pem.bytes() + b"".join(c.bytes() for c in issued.cert_chain_pems))
    files = {
        "registry_ca_cert": str(tmp_path / "redis" / "ca.pem"),
        "registry_client_cert": str(pem),
        "registry_client_key": str(pem),
    }
    a, _ = meet(make(Party, f"rediss://localhost:{redis.tls_port}", **files))
    assert a.shared.tls is not None
    assert set(a.shared.tls.expiry()) == {"registry-ca", "registry-certificate"}

    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(str(stranger))
    deceived = make(
        Party, f"rediss://localhost:{redis.tls_port}", **files | {"registry_ca_cert": str(stranger)}
    )
    member = deceived.join("z")
    until(lambda: member.shared.errors["write"] >= 2 and member.shared.errors["read"] >= 2)
    misnamed = make(Party, f"rediss://127.0.0.2:{redis.tls_port}", **files)
    member = misnamed.join("z")
    until(lambda: member.shared.errors["write"] >= 2)
    assert a.where("z") == set()


def test_a_cluster_is_asked_for_the_node_of_our_slot(make: Make) -> None:
    # Redis' own choice for the nodes' port, 10,000 above the clients', may be anybody's.
    buses = {"one": free_port(), "two": free_port()}
    common = "--cluster-enabled", "yes", "--cluster-node-timeout", "2000"
    first, second = (
        make(RedisServer, name, *common, "--cluster-port", str(port)) for name, port in buses.items()
    )
    with first.client() as one, second.client() as two:
        # Whichever has the slot of a prefix, the other one answers MOVED.
        one.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
        two.execute_command("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
        one.execute_command("CLUSTER", "MEET", "127.0.0.1", second.port, buses["two"])

        def whole(client: Any) -> bool:
            return b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO") and (
                b"cluster_known_nodes:2" in client.execute_command("CLUSTER", "INFO")
            )

        until(lambda: whole(one) and whole(two), "a whole Cluster")
    dead = "127.0.0.1:1"
    for prefix in ("argotun", "another", "third"):
        hosts = f"{dead},127.0.0.1:{first.port}"
        meet(make(Party, f"redis+cluster://{hosts}", registry_prefix=prefix))


def failed_over(sentinel: Sentinel, port: int) -> bool:
    with sentinel.client() as client:
        found = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")
    return bool(found) and int(found[1]) == port


@pytest.fixture
def pair(make: Make) -> tuple[RedisServer, RedisServer, list[Sentinel]]:
    """A master, its replica, and two Sentinels that know both."""
    master = make(RedisServer, "master")
    replica = make(RedisServer, "replica", "--replicaof", "127.0.0.1", str(master.port))
    sentinels = [make(Sentinel, f"sentinel{number}", master, quorum=2) for number in range(2)]

    def known() -> bool:
        for sentinel in sentinels:
            with sentinel.client() as client:
                state = client.info("sentinel")["master0"]
            if (state["slaves"], state["sentinels"]) != (1, 2):
                return False
        return True

    until(known, "Sentinels that know all")
    return master, replica, sentinels


def sentinel_url(sentinels: list[Sentinel]) -> str:
    hosts = ",".join(f"127.0.0.1:{each.port}" for each in sentinels)
    return f"redis+sentinel://127.0.0.1:1,{hosts}/main"


def test_a_dead_master_is_followed_by_the_next_one(
    make: Make, pair: tuple[RedisServer, RedisServer, list[Sentinel]]
) -> None:
    master, replica, sentinels = pair
    party = make(Party, sentinel_url(sentinels))
    a, b = meet(party)
    a.changes.clear()
    master.kill()
    until(lambda: all(failed_over(each, replica.port) for each in sentinels), "a failover", 60.0)
    a.has("z")
    party.settle()
    assert b.where("z") == {a.id}
    assert a.where("y") == {b.id}
    assert "y" not in a.changes


def test_a_master_that_lives_on_as_a_replica_is_left(
    make: Make, pair: tuple[RedisServer, RedisServer, list[Sentinel]]
) -> None:
    master, replica, sentinels = pair
    party = make(Party, sentinel_url(sentinels))
    a, b = meet(party)
    with sentinels[0].client() as client:
        client.execute_command("SENTINEL", "FAILOVER", "main")
    until(lambda: all(failed_over(each, replica.port) for each in sentinels), "a failover", 60.0)
    with master.client() as client:
        # It answers READONLY from now on.
        until(lambda: client.info("replication")["role"] == "slave", "the old master's new role", 60.0)
    a.has("z")
    until(lambda: b.where("z") == {a.id}, "the change by the new master", 30.0)
    party.settle()
    with replica.client() as client:
        assert client.hlen(f"{{argotun}}:routes:{a.id}") == 3


def test_a_sentinel_with_a_password_is_asked_with_it(make: Make, tmp_path: Path) -> None:
    master = make(RedisServer, "master")
    sentinel = make(Sentinel, "sentinel", master)
    with sentinel.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "resetpass", ">s3ntinel-word")
    file = tmp_path / "password"
    file.write_text("s3ntinel-word")
    watch.hold("s3ntinel-word")
    meet(make(Party, sentinel_url([sentinel]), registry_sentinel_password_file=str(file)))
