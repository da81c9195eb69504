"""The internal port with certificates of both sides, as where no NetworkPolicy shields it: all over TLS."""

import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gevent
import pytest

from .harness import objects
from .harness.cluster import Cluster
from .harness.node import need_node
from .harness.objects import AGENT, AGENT_NAMESPACE
from .harness.processes import running
from .harness.tunnel import Tunnel
from .harness.way import Way


@pytest.fixture(scope="module")
def secure(cluster: Cluster, folder: Path) -> Iterator[Tunnel]:
    tunnel = Tunnel(cluster, folder / "secure", plain=False)
    try:
        tunnel.start()
        yield tunnel
    finally:
        tunnel.stop()


@pytest.fixture(scope="module")
def secure_way(secure: Tunnel, cluster: Cluster, folder: Path) -> Way:
    return Way.open("secure", cluster, secure.endpoint, folder)


def test_the_token_that_kubectl_sends_over_tls_stays_out(secure_way: Way) -> None:
    """Over http kubectl sends none: only here does the server have one to drop."""
    user = secure_way.kubectl.json("auth", "whoami")["status"]["userInfo"]["username"]
    assert user == f"system:serviceaccount:{AGENT_NAMESPACE}:{AGENT}"


def test_objects_and_watches_pass(secure_way: Way) -> None:
    with running(secure_way.kubectl.start("get", "cm", "-w", "-o", "name")) as kubectl, gevent.Timeout(30):
        assert kubectl.stdout
        secure_way.kubectl.run("create", "-f", "-", stdin=objects.configmap("over-tls", text="x" * 500_000))
        assert kubectl.stdout.readline() == b"configmap/over-tls\n"


@pytest.mark.node
@pytest.mark.parametrize("websockets", ["true", "false"], ids=["websocket", "spdy"])
def test_exec_passes_its_streams_and_exit_code(secure_way: Way, websockets: str) -> None:
    need_node(secure_way.cluster)
    command = ("exec", "-i", secure_way.pod, "--", "sh", "-c", "cat; exit 3")
    setting = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": websockets}
    done = secure_way.kubectl.run(*command, stdin=b"y" * 2_000_000, code=3, **setting)
    assert done.stdout == b"y" * 2_000_000


def test_a_client_without_a_certificate_is_turned_away(secure: Tunnel) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        replace(secure.endpoint, certificate=None).get("/version")
