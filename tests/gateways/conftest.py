"""Fixtures of the gateways' tests: the chart's objects, and names that lead to loopback."""

from collections.abc import Callable
from typing import Any

import gevent.socket
import pytest

from tests.chart.helm import RELEASES, Rendered, helm_or_skip
from tests.gateways.stage import DOMAIN

Render = Callable[..., Rendered]


@pytest.fixture(scope="session")
def render(tmp_path_factory: pytest.TempPathFactory) -> Render:
    """What the chart makes of values; both versions of Helm are compared by the chart's own tests."""
    return helm_or_skip(RELEASES[-1].version, tmp_path_factory.mktemp("helm")).render


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each name of the tests' domain has the address of loopback."""
    ask = gevent.socket.getaddrinfo

    def getaddrinfo(host: Any, *more: Any, **options: Any) -> Any:
        return ask("127.0.0.1" if str(host).endswith(DOMAIN) else host, *more, **options)

    monkeypatch.setattr(gevent.socket, "getaddrinfo", getaddrinfo)
