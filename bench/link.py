"""Long links: argotun's tunnel over 100 ms and 200 Mbit/s, beside direct access over the same link.

The link is `tests/relay.py`, a process of its own: once between the client and nginx, once between the
agent and the server. What is said in round trips (RTTs) is time divided by the link's own.

    python -m bench.link
    python -m bench.link --rtt 0.2 --rate 12.5e6 --rounds 1
"""

import argparse
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from bench import bulk, certificates, machine, results, subjects, upstream
from bench.client import Client
from bench.errors import BenchError
from bench.ports import free_port
from bench.report import Aim, lined_up
from bench.run import say
from bench.site import Site, wait_until
from bench.subject import Ground
from bench.subjects import CLONE
from bench.upstream import BULK

RELAY = [sys.executable, str(CLONE / "tests" / "relay.py")]
FILES = 4096
REQUESTS = 20  # keep-alive requests, and first requests of a connection
APPLIES, CONNECTIONS = 200, 20
APPLY = 2000  # bytes of one object

Figures = dict[str, float]


@dataclass(frozen=True)
class Link:
    """A round trip in seconds, and bytes per second each way."""

    rtt: float = 0.1
    rate: float = 25e6

    def between(self, site: Site, target: str) -> str:
        """Start a relay to `target`; its own address."""
        port = free_port()
        command = [*RELAY, target, "--port", str(port), "--rtt", str(self.rtt), "--rate", str(self.rate)]
        child = site.start("relay", command)
        wait_until("the relay", lambda: b":" in child.log.read_bytes(), [child])
        return f"127.0.0.1:{port}"


@dataclass(frozen=True)
class Way:
    """One way to the API: over the link alone, or through argotun."""

    url: str
    ca: Path
    link: Link

    def figures(self, rounds: int) -> Figures:
        """Everything but what is compared with the other way."""
        found: Figures = {}
        for direction, path in (("down", "bulk"), ("up", "upload/body")):
            rates = [BULK / bulk.run(direction, f"{self.url}/{path}", BULK, self.ca) for _ in range(rounds)]
            found[direction] = median(rates) / 1e6
        found["kept"] = self._rtts(self._kept())
        found["first"] = self._rtts(median(self._first() for _ in range(REQUESTS)))
        found["applies"] = self._rtts(self._applies())
        return found

    def _rtts(self, seconds: float) -> float:
        return seconds / self.link.rtt

    def _kept(self) -> float:
        """Seconds of a GET on a kept connection."""
        with Client(f"{self.url}/small", self.ca) as client:
            return median([_timed(lambda: _ok(client)) for _ in range(REQUESTS)][1:])

    def _first(self) -> float:
        """Seconds from before the client's connect to the whole answer."""

        def ask() -> None:
            with Client(f"{self.url}/small", self.ca) as client:
                _ok(client)

        return _timed(ask)

    def _applies(self) -> float:
        """Seconds of so many small writes on so many new connections, one after the other on each."""
        failed: list[BaseException] = []

        def apply(number: int) -> None:
            try:
                with Client(f"{self.url}/upload/object-{number}", self.ca) as client:
                    for _ in range(APPLIES // CONNECTIONS):
                        if client.upload(APPLY) not in (201, 204):
                            raise BenchError("an apply was refused")
            except (BenchError, OSError) as error:
                failed.append(error)

        threads = [threading.Thread(target=apply, args=(number,)) for number in range(CONNECTIONS)]

        def run() -> None:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        taken = _timed(run)
        if failed:
            raise BenchError(f"{len(failed)} of {CONNECTIONS} connections failed: {failed[0]}")
        return taken


ROWS: tuple[tuple[str, str, int], ...] = (
    ("down", "200 MB down: MB/s", 1),
    ("down_of_link", "200 MB down: % of what the link carried directly", 0),
    ("up", "200 MB up: MB/s", 1),
    ("up_of_link", "200 MB up: % of what the link carried directly", 0),
    ("kept", "GET on a kept connection: RTTs", 2),
    ("first", "first GET of a connection, its opening included: RTTs", 2),
    ("applies", f"{APPLIES} applies on {CONNECTIONS} new connections: RTTs", 1),
)


def measure(link: Link, rounds: int) -> tuple[Figures, Figures]:
    """The figures of direct access and of argotun over such a link."""
    with Site() as site:
        made = certificates.make(site.folder)
        ground = Ground(site, upstream.start(site, made, FILES), made)
        running = subjects.start(replace(ground, via=lambda server: link.between(site, server)))
        direct = Way(f"https://{link.between(site, ground.upstream.tls)}", made.ca, link)
        tunnel = Way(running.url, made.ca, link)
        say("direct")
        plain = direct.figures(rounds)
        say("argotun")
        ours = tunnel.figures(rounds)
    for direction in ("down", "up"):
        ours[f"{direction}_of_link"] = 100 * ours[direction] / plain[direction]
    return plain, ours


def aims(plain: Figures) -> dict[str, Aim]:
    """What argotun is to keep to, given what direct access took."""
    return {
        "down_of_link": Aim(80, at_least=True),
        "up_of_link": Aim(80, at_least=True),
        "kept": Aim(round(plain["kept"] + 0.1, 2)),
        "first": Aim(round(plain["first"], 2)),
        "applies": Aim(round(plain["applies"], 1)),
    }


def table(plain: Figures, ours: Figures) -> str:
    """One row for each figure."""
    bounds = aims(plain)
    lines = [["", "direct", "argotun", "aim"]]
    for key, label, decimals in ROWS:
        cells = [f"{side[key]:.{decimals}f}" if key in side else "" for side in (plain, ours)]
        lines.append([label, *cells, bounds[key].verdict(ours[key]) if key in bounds else ""])
    return lined_up(lines, words=(0, 3))


def _timed(step: Callable[[], object]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def _ok(client: Client) -> None:
    status, _ = client.get()
    if status != 200:
        raise BenchError(f"a GET was answered with {status}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.link", description=__doc__.splitlines()[0])
    parser.add_argument("--rtt", type=float, default=Link.rtt, help="seconds (%(default)s)")
    parser.add_argument("--rate", type=float, default=Link.rate, help="bytes per second (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="transfers each way (%(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args(argv)
    described = machine.describe()
    try:
        plain, ours = measure(Link(options.rtt, options.rate), options.rounds)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(table(plain, ours))
    print(f"\nlink: {options.rtt * 1000:g} ms, {options.rate * 8 / 1e6:g} Mbit/s")
    print(", ".join(f"{name} {value}" for name, value in described.items()))
    if options.json:
        link = {"rtt": options.rtt, "rate": options.rate}
        results.write(options.json, described, link=link, direct=plain, argotun=ours)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
