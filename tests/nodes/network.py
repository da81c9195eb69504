"""The network between the clusters: a namespace with a router in it, which is a firewall too.

Customers' nodes reach the load balancer's one port, and nobody reaches a customer. Nothing here is attached
to the machine's own network. An operator's commands run in the router's namespace, which reaches every API.
"""

import contextlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

PREFIX = "argotun-nodes"
"""What the names of all namespaces and cgroups of a run begin with."""

ROUTER = f"{PREFIX}-router"
BALANCER = "10.77.9.1"
"""The address of Services of type LoadBalancer, and the only one that customers reach."""

PORT = 443
PODS = "10.244.0.0/24"
SERVICES = "10.96.0.0/16"
DNS = "10.96.0.10"
"""The same in each cluster, as they well may be: nothing of theirs passes the router."""


@dataclass(frozen=True)
class Place:
    """Where one node is: its name, its addresses and its network namespace."""

    name: str
    number: int

    @property
    def address(self) -> str:
        """The node's own address."""
        return f"10.77.{self.number}.2"

    @property
    def gateway(self) -> str:
        """The router's address on its side."""
        return f"10.77.{self.number}.1"

    @property
    def namespace(self) -> str:
        """The name of its network namespace."""
        return f"{PREFIX}-{self.name}"


MANAGEMENT = Place("management", 1)
CUSTOMER = Place("customer-a", 2)
PLACES = (MANAGEMENT, CUSTOMER)

FIREWALL = f"""
table inet wall {{
  chain forward {{
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname "{CUSTOMER.name}" ip daddr {BALANCER} tcp dport {PORT} accept
  }}
}}
"""


def build() -> None:
    """Make the namespaces, what connects them, and the firewall."""
    remove()
    _add(ROUTER)
    for place in PLACES:
        _add(place.namespace)
        _ip(ROUTER, f"link add {place.name} type veth peer name eth0 netns {place.namespace}")
        _ip(ROUTER, f"addr add {place.gateway}/24 dev {place.name}")
        _ip(ROUTER, f"link set {place.name} up")
        _ip(place.namespace, f"addr add {place.address}/24 dev eth0")
        _ip(place.namespace, "link set eth0 up")
        _ip(place.namespace, f"route add default via {place.gateway}")
    _ip(ROUTER, f"route add {BALANCER} via {MANAGEMENT.address}")
    _run(["ip", "netns", "exec", ROUTER, "sysctl", "-qw", "net.ipv4.ip_forward=1"])
    _run(["ip", "netns", "exec", ROUTER, "nft", "-f", "-"], FIREWALL)


def remove() -> None:
    """Take them away, also what a run that was killed has left."""
    for name in (ROUTER, *(place.namespace for place in PLACES)):
        if Path("/run/netns", name).exists():
            with contextlib.suppress(subprocess.CalledProcessError):
                _run(["ip", "netns", "del", name])


def inside(name: str) -> list[str]:
    """The words that begin a command in a network namespace."""
    return ["nsenter", f"--net=/run/netns/{name}", "--"]


def _add(name: str) -> None:
    _run(["ip", "netns", "add", name])
    _ip(name, "link set lo up")


def _ip(name: str, words: str) -> None:
    _run(["ip", "-netns", name, *words.split()])


def _run(words: list[str], said: str = "") -> None:
    subprocess.run(words, input=said, text=True, check=True, capture_output=True, timeout=60)
