"""Every module here leaves as many greenlets and descriptors behind as it found, and no fault unseen."""

import gc
import logging
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import gevent
import pytest

from argotun.server import clients
from tests import leaks
from tests.rig import Rig, until


class Faults(logging.Handler):
    """Keeps what argotun logs with a traceback: faults of its own that it survived."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.seen.append(f"{record.getMessage()}: {record.exc_info[1]!r}")


@pytest.fixture(autouse=True)
def no_fault(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    faults = Faults()
    hub = gevent.get_hub()
    report = hub.handle_error

    def handle_error(context: Any, kind: Any, error: Any, trace: Any) -> None:
        # The scripted API's own handshake may well fail.
        of_the_api = "StreamServer" in str(context) and issubclass(kind, OSError)
        if not issubclass(kind, hub.NOT_ERROR) and not of_the_api:
            faults.seen.append(f"{context}: {error!r}")
        report(context, kind, error, trace)

    monkeypatch.setattr(hub, "handle_error", handle_error)
    logger = logging.getLogger("argotun")
    logger.addHandler(faults)
    yield
    logger.removeHandler(faults)
    assert faults.seen == []


@pytest.fixture(scope="module", autouse=True)
def nothing_left() -> Iterator[None]:
    gevent.sleep(0)
    before = leaks.greenlets(), leaks.descriptors()
    yield
    gc.collect()
    until(
        lambda: len(leaks.greenlets()) <= len(before[0]),
        "the end of every greenlet",
        leaks.SOON,
        explain=leaks.greenlets,
    )
    until(lambda: leaks.descriptors() <= before[1], "the end of every descriptor", leaks.SOON)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time limits are looked at twenty times a second."""
    monkeypatch.setattr(clients, "SWEEP", 0.05)


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[Rig, float], None]:
    """Time limits are looked at when a test says so, as if so many seconds more had passed until then."""
    monkeypatch.setattr(clients, "SWEEP", 3600.0)
    passed = 0.0

    def look(rig: Rig, seconds: float) -> None:
        nonlocal passed
        passed += seconds
        for connection in list(rig.server.clients.connections):
            connection.sweep(monotonic() + passed)

    return look
