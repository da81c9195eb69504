"""Every module here leaves as many greenlets and descriptors behind as it found."""

import gc
from collections.abc import Iterator

import gevent
import pytest

from tests import leaks
from tests.rig import until


@pytest.fixture(scope="module", autouse=True)
def nothing_left() -> Iterator[None]:
    gevent.sleep(0)
    before = leaks.greenlets(), leaks.descriptors()
    yield
    gc.collect()
    until(
        lambda: len(leaks.greenlets()) <= len(before[0]),
        "the end of every greenlet",
        3.0,
        explain=leaks.greenlets,
    )
    until(lambda: leaks.descriptors() <= before[1], "the end of every descriptor", 3.0)
