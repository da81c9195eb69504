"""What clients see when a part ends, changes or comes back: each with a tunnel of its own to break."""

import http.client
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from .harness.binaries import Binaries
from .harness.cluster import AGENT_ACCOUNTS, Cluster
from .harness.http import Answer, Endpoint
from .harness.kubectl import Kubectl
from .harness.node import need_node
from .harness.objects import AGENT_NAMESPACE
from .harness.processes import running
from .harness.tunnel import Tunnel
from .harness.way import Way

# The defaults suit the world; a test would have to wait for them.
QUICK = ("--reconnect-grace=200ms", "--drain=3s", "--keepalive=1s", "--keepalive-timeout=3s")
MAPS = "/api/v1/namespaces/default/configmaps"
REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


@pytest.fixture(scope="module")
def breakable(cluster: Cluster, folder: Path) -> Iterator[tuple[Way, Tunnel]]:
    """A second server and agent for the same cluster, and the way through them."""
    tunnel = Tunnel(cluster, folder / "breakable", *QUICK)
    try:
        tunnel.start()
        yield Way.open("breakable", cluster, tunnel.endpoint, folder), tunnel
    finally:
        tunnel.stop()


@pytest.fixture
def spare(breakable: tuple[Way, Tunnel]) -> Tunnel:
    """The server and agent to be broken, made whole again before each test."""
    _, tunnel = breakable
    tunnel.start_what_is_missing()
    return tunnel


def ask(endpoint: Endpoint) -> Answer:
    """List under an Audit-ID like no other, which the API repeats in its answer to this very request."""
    audit_id = str(uuid4())
    answer = endpoint.get(MAPS, Audit_ID=audit_id)
    assert answer.status != 200 or answer.header("Audit-Id") == audit_id, answer
    return answer


def user_of(endpoint: Endpoint) -> str:
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = endpoint("POST", REVIEWS, review)
    assert answer.status == 201, answer
    return str(answer.json()["status"]["userInfo"]["username"])


def test_a_rotated_token_counts_from_the_next_request_on(spare: Tunnel, cluster: Cluster) -> None:
    first, second = AGENT_ACCOUNTS
    spare.give_account_token(cluster.token(second))
    assert user_of(spare.endpoint) == f"system:serviceaccount:{AGENT_NAMESPACE}:{second}"
    spare.give_account_token(cluster.token(first))
    assert user_of(spare.endpoint) == f"system:serviceaccount:{AGENT_NAMESPACE}:{first}"


def test_without_its_token_the_agent_asks_for_nothing(spare: Tunnel, cluster: Cluster) -> None:
    spare.account_token.unlink()
    try:
        answer = spare.endpoint.get(MAPS, Audit_ID="without-token")
    finally:
        spare.give_account_token(cluster.token())
    assert answer.status == 502
    assert answer.json()["message"].startswith("argotun: ")
    assert user_of(spare.endpoint)
    assert "without-token" not in cluster.audit_log.read_text()


def test_the_api_serves_again_through_the_same_tunnel(kubernetes: Binaries, folder: Path) -> None:
    """On a control plane of its own: the others of this run keep theirs."""
    restarted = Cluster(kubernetes, folder / "restarted")
    with ExitStack() as stack:
        stack.callback(restarted.stop)
        restarted.start()
        tunnel = Tunnel(restarted, folder / "restarted-tunnel")
        stack.callback(tunnel.stop)
        tunnel.start()
        assert ask(tunnel.endpoint).status == 200
        restarted.stop_apiserver()
        refused = ask(tunnel.endpoint)
        assert (refused.status, refused.json()["reason"]) == (503, "ServiceUnavailable")
        assert refused.json()["message"].startswith("argotun: ")
        assert 1 <= int(refused.header("Retry-After") or 0) <= 3
        restarted.start_apiserver()
        assert ask(tunnel.endpoint).status == 200
        assert len([r for r in tunnel.log_records() if r["msg"] == "agent connected"]) == 1


def test_a_crash_of_the_agent_cuts_a_watch_short(spare: Tunnel) -> None:
    """Ended in order, a cut list would be taken for a whole one."""
    with spare.endpoint.connection() as conn:
        response = spare.endpoint.send(conn, "GET", f"{MAPS}?watch=1")
        assert response.status == 200
        spare.stop_agent(signal.SIGKILL)
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            response.read()


@pytest.mark.node
@pytest.mark.parametrize("protocol", ["websocket", "spdy"])
def test_an_exec_ends_when_the_agent_crashes_under_it(
    spare: Tunnel, breakable: tuple[Way, Tunnel], protocol: str
) -> None:
    way, _ = breakable
    need_node(way.cluster)
    command = ("exec", way.pod, "--", "sh", "-c", "echo up; sleep 100")
    setting = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "true" if protocol == "websocket" else "false"}
    with running(way.kubectl.start(*command, **setting)) as kubectl:
        assert kubectl.stdout
        assert kubectl.stderr
        assert kubectl.stdout.readline() == b"up\n"
        spare.stop_agent(signal.SIGKILL)
        code = kubectl.wait(10)
        # Over SPDY kubectl takes any end for a success, that of a killed API server too.
        if protocol == "websocket":
            assert code == 1
            assert kubectl.stderr.read().splitlines()[-1].startswith(b"error: ")


def test_an_agent_that_stands_still_is_given_up(spare: Tunnel) -> None:
    """As when a firewall forgets the connection: nothing says that the other end is gone."""
    assert spare.agent
    spare.agent.send(signal.SIGSTOP)
    try:
        hanging = ask(spare.endpoint)  # fails by its own time-out should it hang for good
        assert (hanging.status, hanging.header("Retry-After")) == (502, None)
        assert hanging.json()["message"].startswith("argotun: ")
        assert ask(spare.endpoint).status == 503
    finally:
        spare.agent.send(signal.SIGCONT)
    spare.wait()


def test_an_agent_that_is_asked_to_end_does_so_and_can_come_back(spare: Tunnel) -> None:
    assert spare.stop_agent() == 0
    answer = ask(spare.endpoint)
    assert answer.status == 503
    assert "argotun: " in answer.json()["message"]
    spare.start_agent()
    spare.wait()
    assert ask(spare.endpoint).status == 200


def test_requests_of_a_short_outage_wait_for_the_agent(cluster: Cluster, folder: Path) -> None:
    patient = Tunnel(cluster, folder / "patient", "--reconnect-grace", "10s")
    try:
        patient.start()
        patient.stop_agent(signal.SIGKILL)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(ask, patient.endpoint)
            patient.start_agent()
            assert waiting.result(10).status == 200
    finally:
        patient.stop()


def test_the_agent_finds_a_restarted_server_again(spare: Tunnel) -> None:
    spare.stop_server(signal.SIGKILL)
    spare.start_server()
    spare.wait()


def test_a_server_that_ends_lets_watches_end_in_order(spare: Tunnel) -> None:
    with spare.endpoint.connection() as conn:
        response = spare.endpoint.send(conn, "GET", f"{MAPS}?watch=1")
        assert response.status == 200
        with ThreadPoolExecutor(1) as pool:
            ending = pool.submit(spare.stop_server)
            response.read()  # IncompleteRead unless the last chunk has come
            assert ending.result(30) == 0


def test_kubectl_shows_why_there_is_no_such_cluster(spare: Tunnel, cluster: Cluster, folder: Path) -> None:
    """Discovery shows plain text, everything else the message of a Status; both after kubectl's retries."""
    kubectl = Kubectl(cluster.binaries["kubectl"], folder / "kubectl-nobody", spare.endpoint_of("nobody"))
    with ThreadPoolExecutor(2) as pool:
        asked = [
            pool.submit(kubectl.run, *args, code=1) for args in (("version",), ("auth", "can-i", "--list"))
        ]
        for done in asked:
            said = done.result().stderr.decode()
            assert "argotun: " in said
            assert "nobody" in said
