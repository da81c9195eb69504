"""Fixtures of the chart's tests: each test runs with both major versions of Helm."""

import pytest

from tests.chart.helm import RELEASES, Helm, helm_or_skip


@pytest.fixture(
    scope="session", params=[each.version for each in RELEASES], ids=lambda version: f"helm{version}"
)
def helm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return helm_or_skip(request.param, tmp_path_factory.getbasetemp())
