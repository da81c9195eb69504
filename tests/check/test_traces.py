"""The step of a check for traces: only where a collector is named, and never a failure."""

from collections.abc import Callable

import pytest

from argotun.check import traces
from argotun.check.steps import Finding, Walk
from bench.ports import held
from tests.collector import Collector
from tests.rig import Peer

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"

Look = Callable[..., Finding]


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Look:
    """The one finding with these variables."""

    def walk(**environ: str) -> Finding:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        found = Walk()
        traces.walk(environ, found)
        (finding,) = found.findings
        return finding

    return walk


@pytest.mark.parametrize("environ", [{}, {ENDPOINT: "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"}])
def test_nothing_is_said_where_nothing_is_traced(environ: dict[str, str]) -> None:
    found = Walk()
    traces.walk(environ, found)
    assert found.findings == []


def test_a_collector_that_takes_them_is_well_and_gets_no_span(look: Look) -> None:
    with Collector() as collector:
        finding = look(**{ENDPOINT: collector.url.replace("//", "//user:hunter-and-more@")})
        assert (finding.result, finding.says) == ("ok", f"the collector at {collector.url} takes them")
        assert len(collector.heads) == 1
        assert collector.spans == []


def test_a_collector_that_is_away_is_a_warning_with_the_reason(look: Look) -> None:
    with held() as closed:
        port = closed.getsockname()[1]
        finding = look(**{ENDPOINT: f"http://127.0.0.1:{port}", "OTEL_EXPORTER_OTLP_TIMEOUT": "0.2"})
    assert finding.result == "warning"
    assert f"the collector at http://127.0.0.1:{port} does not take them: " in finding.says
    assert "4318" in finding.todo


def test_a_port_that_is_no_collectors_is_told_by_its_answer(look: Look) -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    with Collector(script) as collector:
        finding = look(**{ENDPOINT: collector.url})
    assert (finding.result, finding.says.endswith("it answers 404")) == ("warning", True)


def test_words_that_are_of_no_use_are_told(look: Look) -> None:
    finding = look(**{ENDPOINT: "collector:4318"})
    assert finding.says.startswith(f"no traces are exported: {ENDPOINT} must be an http:// or https:// URL")
    assert "http://collector.monitoring:4318" in finding.todo
