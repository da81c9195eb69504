"""A TCP load balancer on loopback: it gives each connection to one of its targets, as it is told to choose.

    with Balancer([server.public_address for server in servers]) as balancer:
        agent.start()                    # connections go round
        balancer.choose = always(0)      # as a load balancer that keeps an address at one target

A target that refuses a connection is passed over, as one that is not ready would be.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import gevent
from gevent import socket
from gevent.server import StreamServer

Choice = Callable[[int], int]
"""Of connection number n the number of its target; more than there are begins at the first again."""


def round_robin(number: int) -> int:
    """One after the other."""
    return number


def always(target: int) -> Choice:
    """All to one: source affinity, of a single source."""
    return lambda number: target


class Balancer:
    """Stands before `targets`; `given` counts the connections of each of them."""

    def __init__(self, targets: list[tuple[str, int]], choose: Choice = round_robin) -> None:
        self.targets = targets
        self.choose = choose
        self.given = [0] * len(targets)
        self._count = 0
        self._server = StreamServer(("127.0.0.1", 0), self._serve)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop()

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._server.server_port
        return port

    @property
    def connections(self) -> int:
        """How many have come."""
        return sum(self.given)

    def _serve(self, near: Any, _peer: object) -> None:
        far = self._dial()
        if far is None:
            return
        ways = [gevent.spawn(_carry, *way) for way in ((near, far), (far, near))]
        gevent.joinall(ways, count=1)
        gevent.killall(ways)
        far.close()

    def _dial(self) -> Any:
        number, self._count = self._count, self._count + 1
        first = self.choose(number)
        for at in range(len(self.targets)):
            target = (first + at) % len(self.targets)
            try:
                sock = socket.create_connection(self.targets[target])
            except OSError:
                continue
            self.given[target] += 1
            return sock
        return None


def _carry(source: Any, sink: Any) -> None:
    """Pass everything on, and then the end."""
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
    except OSError:
        pass
