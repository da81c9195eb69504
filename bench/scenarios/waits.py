"""What a person at a terminal, or a controller with watches, waits for: first bytes, keystrokes, events."""

import gc
import re
import selectors
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from bench import probe
from bench.client import TIMEOUT, Client
from bench.errors import BenchError
from bench.scenarios.grounds import LIVE, LiveApi
from bench.scenarios.scene import STANDARD, Figures, Row, Scenario, Stage, costs, cpu_rows

CONNECTIONS = 100
"""New connections for each second of the effort."""

KEYSTROKE = 0.01
"""Seconds between two of them."""

WATCHES = 100
EVERY = 0.1
"""Seconds between two moments in which something happens on all watches."""

_EVENT = re.compile(rb"(\d+\.\d+)\n")


def _percentiles(taken: list[float]) -> Figures:
    found = probe.summary(taken)
    return {"p50": 1e3 * found.p50, "p99": 1e3 * found.p99}


def _scenario(
    name: str, says: str, per: str, measure: Callable[[Stage], Figures], on: str, over_direct: bool = False
) -> Scenario:
    latency = [Row(key, f"{key} ms", 2, over_direct=over_direct) for key in ("p50", "p99")]
    rows = (*latency, *cpu_rows(per))

    def measured(stage: Stage) -> Figures:
        with _no_pauses():
            return measure(stage)

    return Scenario(name, says, rows, measured, on)


@contextmanager
def _no_pauses() -> Iterator[None]:
    """The client's own collector must not look like the tunnel's."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _first_byte(stage: Stage) -> Figures:
    url, ca = f"{stage.running.url}/small", stage.ground.certificates.ca
    count = CONNECTIONS * stage.effort.seconds
    taken = []
    meter = stage.meter()
    for _ in range(count):
        began = time.perf_counter()
        with Client(url, ca) as client:
            client.ask()
            if client.receive(12) != b"HTTP/1.1 200":
                raise BenchError("a new connection's request was not answered with 200")
            taken.append(time.perf_counter() - began)
    return _percentiles(taken) | costs(meter.stop(), count, 1e6)


def _keystrokes(stage: Stage) -> Figures:
    # A percentile wants more than the load of a moment.
    count = int(2 * stage.effort.seconds / KEYSTROKE)
    taken = []
    with Client(stage.running.url, stage.ground.certificates.ca) as client:
        client.upgrade("exec")
        meter = stage.meter()
        due = time.perf_counter()
        for number in range(count):
            time.sleep(max(0.0, due - time.perf_counter()))
            key = b"abcdefgh"[number % 8 : number % 8 + 1]
            began = time.perf_counter()
            client.send(key)
            if client.receive(1) != key:
                raise BenchError("a keystroke did not come back")
            taken.append(time.perf_counter() - began)
            due = began + KEYSTROKE
        cpu = meter.stop()
    return _percentiles(taken) | costs(cpu, count, 1e6)


class _Watch:
    """One watch, whose events carry the time at which they happened."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._data = b""
        client.ask("watch?watch=1")
        while b"\n0.0\n" not in self._data:
            self._more()
            if not self._data.startswith(b"HTTP/1.1 200"):
                raise BenchError("a watch was refused")
        self._data = b""

    def events(self) -> list[float]:
        """Those that have come; waits for one piece of them."""
        self._more()
        while self.client.pending():
            self._more()
        found = _EVENT.findall(self._data)
        self._data = self._data[self._data.rfind(b"\n") + 1 :]
        return [float(each) for each in found]

    def _more(self) -> None:
        more = self.client.receive(65536)
        if not more:
            raise BenchError("a watch ended")
        self._data += more


def _watches(stage: Stage) -> Figures:
    api = stage.ground.upstream
    assert isinstance(api, LiveApi)
    times = int(stage.effort.seconds / EVERY)
    taken: list[float] = []
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(WATCHES):
            client = stack.enter_context(Client(stage.running.url, stage.ground.certificates.ca))
            selector.register(client, selectors.EVENT_READ, _Watch(client))
        meter = stage.meter()
        for _ in range(times):
            api.told.begin(f"fire {WATCHES}")
            taken += _arrived(selector)
            api.told.end()
            time.sleep(EVERY)
        cpu = meter.stop()
    return _percentiles(taken) | costs(cpu, len(taken), 1e6)


def _arrived(selector: selectors.BaseSelector) -> list[float]:
    """Seconds from when something happened on all watches until it was read, for each."""
    taken: list[float] = []
    deadline = time.monotonic() + TIMEOUT
    while len(taken) < WATCHES:
        for key, _ in selector.select(1.0):
            taken += [time.monotonic() - happened for happened in key.data.events()]
        if time.monotonic() > deadline:
            raise BenchError(f"{len(taken)} of {WATCHES} events came within {TIMEOUT:.0f} s")
    return taken


SCENARIOS = (
    _scenario(
        *(
            "first-byte",
            "from before connect to the answer's first byte, one after the other",
        ),
        *("µs/request", _first_byte, STANDARD),
    ),
    _scenario(
        *("exec", "a keystroke there and back on an upgraded connection, 100/s"),
        *("µs/keystroke", _keystrokes, LIVE, True),
    ),
    _scenario(
        *("watches", f"{WATCHES} watches, an event on each of them 10 times a second: until it is read"),
        *("µs/event", _watches, LIVE),
    ),
)
