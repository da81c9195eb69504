"""Whether requests are traced, as the environment says, and what is said where they cannot be."""

import logging
import subprocess
import sys

import pytest

from argotun.observe import tracing

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
COLLECTOR = "http://collector.example:4318"


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {ENDPOINT: ""},
        {ENDPOINT: COLLECTOR, "OTEL_SDK_DISABLED": "true"},
        {ENDPOINT: COLLECTOR, "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_SERVICE_NAME": "only a name"},
    ],
)
def test_nothing_is_traced_unless_a_collector_is_named(
    environ: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    assert tracing.start("argotun-server", environ) is None
    assert said(caplog) == []


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({ENDPOINT: "collector:4318"}, f"{ENDPOINT} must be an http:// or https:// URL"),
        ({ENDPOINT: "http://"}, f"{ENDPOINT} must be an http:// or https:// URL"),
        ({ENDPOINT: "http://[::1"}, f"{ENDPOINT} must be an http:// or https:// URL"),
        ({ENDPOINT: COLLECTOR, TRACES: "unix:/run/c"}, f"{TRACES} must be an http:// or https:// URL"),
        (
            {ENDPOINT: COLLECTOR, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc', and argotun speaks http/protobuf only",
        ),
    ],
)
def test_words_that_are_of_no_use_are_a_sentence(
    environ: dict[str, str], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert tracing.start("argotun-server", environ) is None
    [sentence] = said(caplog)
    assert sentence.startswith(f"no traces are exported: {words}")


def test_an_endpoint_without_the_extra_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import argotun.observe

    for name in [name for name in sys.modules if name.split(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "argotun.observe.otlp", raising=False)
    monkeypatch.delattr(argotun.observe, "otlp", raising=False)
    assert tracing.start("argotun-server", {ENDPOINT: COLLECTOR}) is None
    [sentence] = said(caplog)
    assert f"{ENDPOINT} is set, but opentelemetry" in sentence
    assert sentence.endswith("is not installed: pip install 'argotun[otel]'")


def test_times_keep_their_order_when_a_process_waits_between_two_clocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = tracing.Clock()
    before = clock.unix(1.0)
    real = tracing.time_ns
    monkeypatch.setattr(tracing, "time_ns", lambda: real() - tracing.STEP // 2)
    assert clock.unix(1.5) - before == 500_000_000


def test_times_follow_a_clock_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = tracing.Clock()
    before = clock.unix(1.0)
    real, hour = tracing.time_ns, 3600 * 10**9
    monkeypatch.setattr(tracing, "time_ns", lambda: real() - hour)
    assert abs(clock.unix(1.0) + hour - before) < hour // 2


def test_nothing_of_it_is_imported_without_a_collector() -> None:
    code = (
        "import sys; import argotun.cli, argotun.server.app, argotun.agent.app; "
        "from argotun.observe import tracing; assert tracing.start('argotun-server', {}) is None; "
        "sys.exit(any(name.split('.')[0] in ('opentelemetry', 'google') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
