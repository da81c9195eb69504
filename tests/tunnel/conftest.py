"""Two clusters for those who break rules, and as many greenlets and descriptors left behind as were found."""

import gc
from collections.abc import Iterator

import gevent
import pytest

from tests import leaks
from tests.rig import Rig, until


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


@pytest.fixture(scope="module")
def rig(nothing_left: None) -> Iterator[Rig]:
    """A server whose cluster c2 has an honest agent; c1 is for the test's own."""
    rig = Rig(mutual=False, agent={"token": "token-of-agent-c2"}, server={"reconnect_grace": 0.0})
    rig.write_clusters([{"id": "c1", "token": Rig.TOKEN}, {"id": "c2", "token": "token-of-agent-c2"}])
    with rig:
        yield rig


@pytest.fixture(autouse=True)
def a_full_store_of_trifles(request: pytest.FixtureRequest) -> None:
    """What the test before took of it, this one's agent would lack: the store is the cluster's."""
    if "rig" in request.fixturenames:
        request.getfixturevalue("rig").server.agents.forget("c1")
