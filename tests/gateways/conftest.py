"""Fixtures of the gateways' tests: the chart's objects, and names that lead to loopback."""

from collections.abc import Callable
from typing import Any

import gevent.socket
import pytest

from tests.chart.helm import RELEASES, Helm, Rendered, helm_or_skip
from tests.gateways.stage import DOMAIN

Render = Callable[..., Rendered]


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """The newest Helm; that the older one renders the same is for the chart's own tests to say."""
    return helm_or_skip(RELEASES[-1].version, tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def render(helm: Helm) -> Render:
    """What the chart makes of values."""
    return helm.render


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each name of the tests' domain has the address of loopback."""
    ask = gevent.socket.getaddrinfo

    def getaddrinfo(host: Any, *more: Any, **options: Any) -> Any:
        return ask("127.0.0.1" if str(host).endswith(DOMAIN) else host, *more, **options)

    monkeypatch.setattr(gevent.socket, "getaddrinfo", getaddrinfo)
