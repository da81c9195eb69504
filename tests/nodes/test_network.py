"""What the firewall and the chart's NetworkPolicies let through, and what not: each is shown."""

import json

import pytest

from tests.nodes import client as client_pods
from tests.nodes.client import Client, wait
from tests.nodes.network import BALANCER, DNS, PORT, ROUTER, inside
from tests.nodes.node import PORT as API
from tests.nodes.reach import connects, opens, pod, stays_closed
from tests.nodes.rig import Pods, Rig, first_process

KUBELET = 10250
SERVICE = "10.96.0.1"
"""The API's Service."""


@pytest.fixture(scope="module")
def stranger(rig: Rig) -> list[str]:
    """The network of a pod in `default`, beside the server."""
    said = client_pods.pod("stranger", "default")
    rig.management.kubectl("apply", "-f", "-", said=json.dumps(said))
    wait(rig.management, "stranger", "default")
    return pod(first_process(rig.management.json("get", "pod", "stranger")))


@pytest.fixture(scope="module")
def beside(rig: Rig, client: Client) -> list[str]:
    """The network of a pod in Argo CD's namespace."""
    return pod(first_process(rig.management.json("-n", "argocd", "get", "pod", client_pods.NAME)))


@pytest.fixture
def server_pod(server: Pods) -> tuple[str, list[str]]:
    """The address and the network of the server's pod."""
    return place(server)


@pytest.fixture
def agent_pod(agent: Pods) -> tuple[str, list[str]]:
    """The same of the agent's."""
    return place(agent)


def place(pods: Pods) -> tuple[str, list[str]]:
    pods.settle()
    found = pods.one()
    return found["status"]["podIP"], pod(first_process(found))


def node(rig: Rig, name: str) -> list[str]:
    """The network of a node."""
    return inside(next(each.place.namespace for each in rig.nodes if each.place.name == name))


def test_the_firewall_lets_a_customer_reach_the_load_balancer_only(rig: Rig, server: Pods) -> None:
    server.settle()
    router = inside(ROUTER)
    customer, management = node(rig, "customer-a"), node(rig, "management")
    opens(customer, BALANCER, PORT)
    stays_closed(customer, router, rig.management.place.address, API)
    stays_closed(customer, router, rig.management.place.address, KUBELET)
    stays_closed(management, router, rig.customer.place.address, API)


def test_only_argo_cd_reaches_the_internal_port(
    server_pod: tuple[str, list[str]], beside: list[str], stranger: list[str]
) -> None:
    stays_closed(stranger, beside, server_pod[0], 8080)


def test_everybody_reaches_the_public_port(
    server_pod: tuple[str, list[str]], beside: list[str], stranger: list[str]
) -> None:
    for each in (beside, stranger):
        opens(each, server_pod[0], 8443)


def test_no_pod_reaches_the_health_port(
    rig: Rig, server_pod: tuple[str, list[str]], beside: list[str], stranger: list[str]
) -> None:
    for each in (beside, stranger):
        stays_closed(each, node(rig, "management"), server_pod[0], 8081)


def test_a_server_reaches_nobody(rig: Rig, server_pod: tuple[str, list[str]], stranger: list[str]) -> None:
    for host, port in ((SERVICE, 443), (rig.management.place.address, API), (DNS, 53)):
        stays_closed(server_pod[1], stranger, host, port)


def test_an_agent_reaches_its_api_its_server_and_the_dns(rig: Rig, agent_pod: tuple[str, list[str]]) -> None:
    for host, port in ((SERVICE, 443), (rig.customer.place.address, API), (BALANCER, PORT), (DNS, 53)):
        opens(agent_pod[1], host, port)


def test_an_agent_reaches_no_other_pod_and_no_kubelet(
    rig: Rig, agent_pod: tuple[str, list[str]], worker: str
) -> None:
    address = rig.customer.json("get", "pod", worker)["status"]["podIP"]
    stays_closed(agent_pod[1], node(rig, "customer-a"), address, 8000)
    stays_closed(agent_pod[1], node(rig, "customer-a"), rig.customer.place.address, KUBELET)


def test_no_pod_reaches_an_agent(rig: Rig, agent_pod: tuple[str, list[str]], worker: str) -> None:
    other = pod(first_process(rig.customer.json("get", "pod", worker)))
    stays_closed(other, node(rig, "customer-a"), agent_pod[0], 8081)
    assert not connects(other, agent_pod[0], 8080)
