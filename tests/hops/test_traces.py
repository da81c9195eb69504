"""A request's spans on server and agent, and the traceparent that goes on, against a collector."""

import logging
from collections.abc import Iterator

import gevent
import pytest

from bench.ports import held
from tests.collector import Collector, Seen
from tests.rig import PATIENCE, Api, Gate, Peer, Rig, answer, until

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{CALLER}-01"
SERVER, AGENT = "argotun-server", "argotun-agent"
KIND_SERVER, KIND_CLIENT = 2, 3


def recording(api: Api) -> None:
    """Let the API keep the heads of its requests."""

    def script(peer: Peer) -> None:
        while True:
            api.heads.append(peer.head())
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    api.script = script


def field(head: bytes, name: str) -> list[str]:
    lines = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    return [value.strip().decode() for key, _, value in lines if key.lower() == name.encode()]


def sent(head: bytes) -> tuple[str, str, bool]:
    """Trace, span and whether it is sampled, as the one traceparent of a head says."""
    [value] = field(head, "traceparent")
    version, trace, span, flags = value.split("-")
    assert version == "00"
    return trace, span, bool(int(flags, 16) & 1)


def traced(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> None:
    """Those that start from now on send their spans there, soon."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as collector:
        traced(monkeypatch, collector)
        yield collector


@pytest.fixture
def rig(collector: Collector) -> Iterator[Rig]:
    api = Api()
    recording(api)
    with Rig(api) as rig:
        yield rig


def spans_of(collector: Collector, audit_id: str) -> tuple[Seen, Seen]:
    """The spans of a request on server and agent."""

    def wanted(span: Seen) -> bool:
        return bool(span.facts.get("argotun.audit_id") == audit_id)

    return collector.wait(SERVER, wanted), collector.wait(AGENT, wanted)


def test_without_a_collector_the_fields_pass_as_they_came() -> None:
    api = Api()
    recording(api)
    lines = b"Traceparent: anything at all\r\ntracestate: a=1,,b\r\ntraceparent: twice\r\nTracestate: c=2\r\n"
    with Rig(api) as rig:
        rig.get(extra=lines)
        assert lines in api.heads[-1]


def test_each_hop_is_a_child_of_the_one_before(collector: Collector, rig: Rig) -> None:
    extra = f"traceparent: {PARENT}\r\nTraceState: vendor=1\r\ntracestate: other=2\r\nAudit-ID: one\r\n"
    assert rig.get("/tunnel/c1/api/v1/pods?token=in-the-query", extra.encode()).status == 200
    server, agent = spans_of(collector, "one")
    assert {server.trace, agent.trace} == {TRACE}
    assert (server.parent, agent.parent) == (CALLER, server.id)
    [head] = rig.api.heads
    assert sent(head) == (TRACE, agent.id, True)
    assert field(head, "tracestate") == ["vendor=1,other=2"]
    assert {server.state, agent.state} == {"vendor=1,other=2"}
    assert (server.kind, agent.kind) == (KIND_SERVER, KIND_CLIENT)
    for span in (server, agent):
        assert span.facts == {
            "http.request.method": "GET",
            "url.path": "/api/v1/pods",
            "http.response.status_code": 200,
            "argotun.cluster": "c1",
            "argotun.audit_id": "one",
        }
        assert (span.name, span.failed, span.why) == ("GET", False, "")
    assert server.start <= agent.start <= agent.end <= server.end
    assert b"in-the-query" not in collector.raw


@pytest.mark.parametrize(
    "lines",
    [
        "",
        f"traceparent: 00-{TRACE}-{CALLER}\r\n",
        f"traceparent: 00-{TRACE}-{CALLER}-01-more\r\n",
        f"traceparent: ff-{TRACE}-{CALLER}-01\r\n",
        f"traceparent: 00-{'0' * 32}-{CALLER}-01\r\n",
        f"traceparent: 00-{TRACE}-{'0' * 16}-01\r\n",
        f"traceparent: 00-{TRACE.upper()}-{CALLER}-01\r\n",
        f"traceparent: {PARENT}, {PARENT}\r\n",
        f"traceparent: {PARENT}\r\nTraceparent: {PARENT}\r\n",
        f"traceparent: {'0' * 60000}\r\n",
        "traceparent: \xff\xfe\r\n",
    ],
    ids=[str(number) for number in range(11)],
)
def test_what_is_no_traceparent_begins_a_trace_here(lines: str, collector: Collector, rig: Rig) -> None:
    extra = f"{lines}tracestate: of=nobody\r\nAudit-ID: one\r\n"
    assert rig.get(extra=extra.encode("latin-1")).status == 200
    server, agent = spans_of(collector, "one")
    assert server.parent == ""
    assert server.trace not in (TRACE, TRACE.upper())
    assert (agent.trace, agent.parent) == (server.trace, server.id)
    [head] = rig.api.heads
    assert sent(head) == (agent.trace, agent.id, True)
    assert field(head, "tracestate") == []


def test_a_traceparent_of_a_later_version_is_understood(collector: Collector, rig: Rig) -> None:
    rig.get(extra=f"traceparent: cc-{TRACE}-{CALLER}-01-more\r\nAudit-ID: one\r\n".encode())
    server, _ = spans_of(collector, "one")
    assert (server.trace, server.parent) == (TRACE, CALLER)


def test_a_traceparent_that_connection_names_goes_no_further(collector: Collector, rig: Rig) -> None:
    rig.get(extra=f"Connection: traceparent\r\ntraceparent: {PARENT}\r\nAudit-ID: one\r\n".encode())
    _, agent = spans_of(collector, "one")
    [head] = rig.api.heads
    assert sent(head) == (agent.trace, agent.id, True)


def test_a_request_that_is_not_sampled_is_recorded_nowhere(collector: Collector, rig: Rig) -> None:
    client = rig.client()
    rig.get(extra=f"traceparent: 00-{TRACE}-{CALLER}-00\r\nAudit-ID: quiet\r\n".encode(), client=client)
    rig.get(extra=b"Audit-ID: loud\r\n", client=client)
    spans_of(collector, "loud")
    # Spans leave in the order in which they ended.
    assert collector.of(SERVER, lambda span: span.trace == TRACE) == []
    assert collector.of(AGENT, lambda span: span.trace == TRACE) == []
    trace, span, sampled = sent(rig.api.heads[0])
    assert (trace, sampled) == (TRACE, False)
    assert span != CALLER


def test_a_request_that_finds_no_agent_says_why(collector: Collector, rig: Rig) -> None:
    assert rig.get("/tunnel/nowhere/api/v1/pods", b"Audit-ID: one\r\n").status == 503
    span = collector.wait(SERVER)
    assert span.failed
    assert span.why == "no cluster 'nowhere' is known here"
    assert span.facts["http.response.status_code"] == 503
    assert span.facts["error.type"] == "503"
    assert span.facts["argotun.cluster"] == "nowhere"


def test_what_the_agent_answers_in_the_apis_place_fails_both(collector: Collector) -> None:
    def ends(peer: Peer) -> None:
        peer.head()
        peer.finish()

    with Rig(Api(ends)) as rig:
        assert rig.get(extra=b"Audit-ID: one\r\n").status == 502
        server, agent = spans_of(collector, "one")
    assert agent.why == "the API closed the connection without an answer"
    assert server.failed
    assert agent.failed
    assert server.facts["http.response.status_code"] == agent.facts["http.response.status_code"] == 502


def test_what_concerns_no_cluster_is_not_traced(collector: Collector, rig: Rig) -> None:
    client = rig.client()
    assert rig.get("/healthz", client=client).status == 200
    rig.get(extra=b"Audit-ID: one\r\n", client=client)
    spans_of(collector, "one")
    assert len(collector.of(SERVER)) == 1


@pytest.mark.parametrize("upgrade", [False, True], ids=["watch", "upgrade"])
def test_a_span_lasts_as_long_as_its_stream(upgrade: bool, collector: Collector) -> None:
    gate = Gate()

    def script(peer: Peer) -> None:
        head = peer.head()
        if b"/short" in head:
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        elif upgrade:
            peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
        else:
            peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        if b"/short" not in head:
            gate.wait()
            peer.send(b"" if upgrade else b"0\r\n\r\n")

    with Rig(Api(script)) as rig:
        client = rig.client()
        more = b"Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n" if upgrade else b""
        client.send(
            b"GET /tunnel/c1/api/v1/long?watch=1 HTTP/1.1\r\nHost: x\r\nAudit-ID: long\r\n%b\r\n" % more
        )
        client.head()
        rig.get("/tunnel/c1/short", b"Audit-ID: short\r\n")
        short, _ = spans_of(collector, "short")
        assert len(collector.of(SERVER)) == len(collector.of(AGENT)) == 1
        gate.open()
        server, agent = spans_of(collector, "long")
        assert server.start < short.start < short.end < min(server.end, agent.end)
        assert server.facts["http.response.status_code"] == (101 if upgrade else 200)


def refuses(peer: Peer) -> None:
    while True:
        head = peer.head()
        size = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:")
        peer.read(size)
        peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno")
        asked.append(head)


asked: list[bytes] = []


def warnings(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What was said of the collector."""
    return [record for record in caplog.records if record.name == "argotun.observe.otlp"]


def test_a_collector_that_refuses_is_told_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked.clear()
    with Collector(refuses) as collector:
        traced(monkeypatch, collector)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20for-the-collector")
        with Rig(agent=None) as rig:
            for number in range(3):
                assert rig.get("/tunnel/nowhere/api/v1/pods").status == 503
                until(lambda number=number: len(asked) > number, "the collector's next message")
    assert b"for-the-collector" in asked[0]
    [line] = warnings(caplog)
    assert line.getMessage().startswith("traces are lost")
    assert line.fields == {"collector": collector.url, "reason": "it answers 400"}  # type: ignore[attr-defined]
    assert [each for each in caplog.records if each.name.startswith("opentelemetry")] == []


def test_a_collector_that_is_away_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # One attempt and, a second later, another.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    with held() as nobody:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        with Rig() as rig:
            assert rig.get().status == 200
            until(lambda: warnings(caplog), "a word about the collector")
            assert rig.get().status == 200
    assert warnings(caplog)[0].fields["reason"] == "Connection refused"  # type: ignore[attr-defined]


def endless(peer: Peer) -> None:
    peer.head()
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        peer.send(b"10000\r\n" + bytes(65536) + b"\r\n")


def dripping(peer: Peer) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        peer.send(b"y")
        gevent.sleep(0.01)


def silent(peer: Peer) -> None:
    while True:
        peer.read(1)


@pytest.mark.parametrize("script", [endless, dripping, silent])
def test_a_hostile_collector_keeps_nobody_from_going_on(
    script: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Collector(script) as collector:  # type: ignore[arg-type]
        traced(monkeypatch, collector)
        # Longer than the test may take: only what ends the process bounds it.
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3600")
        with Rig() as rig:
            for _ in range(3):
                assert rig.get().status == 200
            with gevent.Timeout(PATIENCE, AssertionError("the end waits for the collector")):
                rig.agent.stop()
                rig.server.stop()


def test_a_collectors_redirect_is_not_followed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Collector() as other:
        where = b"HTTP/1.1 307 x\r\nLocation: %b/v1/traces\r\nContent-Length: 0\r\n\r\n" % other.url.encode()

        def script(peer: Peer) -> None:
            peer.head()
            peer.send(where)
            silent(peer)

        with Collector(script) as collector:
            traced(monkeypatch, collector)
            with Rig(agent=None) as rig:
                rig.get("/tunnel/nowhere/api/v1/pods")
                until(lambda: warnings(caplog), "a word about the collector")
        assert other.heads == []


def test_what_is_left_is_sent_at_the_end(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", str(3_600_000))
    # Enough of them on the busiest machine.
    monkeypatch.setattr("argotun.observe.otlp.LAST_WORDS", PATIENCE)
    with Rig() as rig:
        assert rig.get().status == 200
        assert collector.spans == []
    assert len(collector.of(SERVER)) == len(collector.of(AGENT)) == 1


def test_a_name_and_facts_of_the_environments_are_used(
    monkeypatch: pytest.MonkeyPatch, collector: Collector
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "edge")
    with Rig(Api(answer()), agent=None) as rig:
        rig.get("/tunnel/nowhere/api/v1/pods")
        collector.wait("edge")
