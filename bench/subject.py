"""What a subject of the benchmark is: who starts itself on a ground, and answers at a URL from then on."""

from collections.abc import Callable
from dataclasses import dataclass, field

from bench import client
from bench.certificates import Certificates
from bench.crowd import Crowd
from bench.errors import BenchError
from bench.site import Child, Site, wait_until
from bench.upstream import Upstream

ALL_CONNECTIONS = (1, 16, 64)


@dataclass(frozen=True)
class Ground:
    """What every subject stands on.

    Its agent dials what `via` makes of an address, `host:port`: a link may be in the way.
    """

    site: Site
    upstream: Upstream
    certificates: Certificates
    via: Callable[[str], str] = str


@dataclass(frozen=True)
class Running:
    """A subject that answers: requests go to `url` + the upstream's path; children by role."""

    url: str
    children: dict[str, Child] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """One column of the table.

    `connections`: with how many it is driven; `bulk`, `idle`: whether these are measured too; `standard`:
    whether it is measured when nothing is chosen; `crowd`: starts it with so many agents, or says why that
    is not done.
    """

    name: str
    says: str
    start: Callable[[Ground], Running]
    connections: tuple[int, ...] = ALL_CONNECTIONS
    bulk: bool = True
    idle: bool = False
    standard: bool = True
    crowd: Callable[[Ground, int], Crowd] | str = "the bench has no program with many agents of this kind"


def ready(ground: Ground, running: Running) -> Running:
    """The same, once a request goes through; BenchError with the logs where none does."""

    def answers() -> bool:
        try:
            return client.get(f"{running.url}/small", ground.certificates.ca)[0] == 200
        except (OSError, BenchError):
            return False

    wait_until("the first request", answers, list(running.children.values()))
    return running
