"""Replicas of one machine whose links go by Unix sockets: as safe as others, and found by name only."""

import os
import socket
import ssl
from collections.abc import Iterator
from tempfile import TemporaryDirectory

import pytest

from argotun.replicas.records import Beat, Record, Route, beat_message
from argotun.transport.paths import path_of, prepare
from tests.redis_server import RedisServer
from tests.replicas import Joined
from tests.rig import Api, answers_its_own, until

STRANGER = "f" * 16


class OneMachine(Joined):
    """Two replicas that find each other in a folder."""

    def __init__(self, url: str, sockets: str) -> None:
        super().__init__(url, api=Api(answers_its_own))
        self.sockets = sockets
        self._peer_options["peer_sockets"] = self.sockets


@pytest.fixture
def folder() -> Iterator[str]:
    # tmp_path may be too long for a socket.
    with TemporaryDirectory(prefix="argotun-") as above:
        yield above


@pytest.fixture
def replicas(redis_server: RedisServer, folder: str) -> Iterator[OneMachine]:
    with OneMachine(redis_server.url, f"{folder}/s") as replicas:
        yield replicas
    assert os.listdir(replicas.sockets) == []


def test_a_request_takes_its_hop_by_a_unix_socket(replicas: OneMachine) -> None:
    replicas.agent_at(1)
    assert replicas.get_from(0).status == 200
    assert replicas.servers[0].metrics.cluster("c1").hops == 1
    assert sorted(os.listdir(replicas.sockets)) == [f"{each}.sock" for each in replicas.ids]
    (link,) = replicas.links(0)
    assert link.address == f"unix:{replicas.sockets}/{replicas.ids[1]}.sock"


def test_a_socket_wants_a_replicas_certificate_as_a_port_does(replicas: OneMachine) -> None:
    context = ssl.create_default_context(cafile=replicas.peers.path("ca.pem"))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(60.0)
        sock.connect(path_of(replicas.sockets, replicas.ids[1]))
        # Over TLS 1.3 the refusal comes with the first read.
        with context.wrap_socket(sock, server_hostname="argotun-peer") as tls, pytest.raises(ssl.SSLError):
            tls.recv(1)


def test_a_path_that_stands_in_the_registry_is_not_dialled(
    replicas: OneMachine, redis_server: RedisServer, folder: str
) -> None:
    """Whoever can write there shall not choose among the sockets of this machine."""
    elsewhere = f"{folder}/elsewhere"
    prepare(elsewhere)
    path = path_of(elsewhere, STRANGER)
    with socket.socket(socket.AF_UNIX) as trap:
        trap.bind(path)
        trap.listen()
        trap.settimeout(0.0)
        beat = Beat(STRANGER, 1, Record(f"unix:{path}"), True, {"c1": Route(1, 1)})
        with redis_server.client() as client:
            client.publish("{argotun}:feed", beat_message(beat))
        until(
            lambda: any(link.replica == STRANGER and link.tried for link in replicas.links(0)), "an attempt"
        )
        (problem,) = (link.problem for link in replicas.links(0) if link.replica == STRANGER)
        assert (
            problem == f"cannot connect to {path_of(replicas.sockets, STRANGER)}: no such file or directory"
        )
        with pytest.raises(BlockingIOError):
            trap.accept()
