"""Small requests beside something larger: what a live tunnel notices of it."""

import time
from collections import Counter
from dataclasses import dataclass

import gevent

from bench.rolling import Connection

EVERY = 0.02  # seconds between two requests


@dataclass
class Latency:
    """Of requests, seconds; `failed` counts those that were not answered with 200."""

    count: int
    p50: float
    p99: float
    slowest: float
    failed: dict[str, int]

    def __str__(self) -> str:
        return (
            f"{self.count} requests, p50 {self.p50 * 1000:.1f} ms, p99 {self.p99 * 1000:.1f} ms, "
            f"slowest {self.slowest * 1000:.0f} ms, failed: {self.failed or 'none'}"
        )


class Requests:
    """One request after the other to one cluster, each timed from when it was due."""

    def __init__(self, address: tuple[str, int], name: str) -> None:
        self._address = address
        self._request = f"GET /tunnel/{name}/api HTTP/1.1\r\nHost: argotun\r\n\r\n".encode()
        self._taken: list[tuple[float, float, str]] = []
        self._connection: Connection | None = None
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Ask no more."""
        self._greenlet.kill()
        self._hang_up()

    def since(self, began: float) -> Latency:
        """What those that were due since then took."""
        taken = [(seconds, failure) for due, seconds, failure in self._taken if due >= began]
        seconds = sorted(each for each, _ in taken) or [0.0]
        return Latency(
            count=len(taken),
            p50=seconds[len(seconds) // 2],
            p99=seconds[min(len(seconds) - 1, len(seconds) * 99 // 100)],
            slowest=seconds[-1],
            failed=dict(Counter(failure for _, failure in taken if failure)),
        )

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            gevent.sleep(max(0.0, due - time.monotonic()))
            try:
                self._connection = self._connection or Connection(self._address)
                status = self._connection.ask(self._request)[0]
                failure = "" if status == 200 else str(status)
            except (OSError, EOFError) as error:
                failure = type(error).__name__
                self._hang_up()
            now = time.monotonic()
            self._taken.append((due, now - due, failure))
            # After a long wait the next one is due at once, but those that were missed are not made up for.
            due = max(due + EVERY, now)

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
