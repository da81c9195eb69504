"""Probes: the right answers, and a port that hostile or silent clients cannot take away."""

import json
import re
import socket
from collections.abc import Iterator

import gevent
import gevent.event
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from argotun.errors import ConfigError
from argotun.observe import probes as module
from argotun.observe.metrics import ServerMetrics
from argotun.observe.probes import HealthServer, Probes


class State:
    """What the probes ask about."""

    def __init__(self) -> None:
        self.ready = True
        self.why = "no agent is connected"


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def probes(state: State) -> Probes:
    return Probes(
        lambda: state.ready, ServerMetrics(), lambda: {"clusters": {"dev": 1}}, reason=lambda: state.why
    )


@pytest.fixture
def server(probes: Probes) -> Iterator[HealthServer]:
    health = HealthServer("127.0.0.1", 0, probes)
    health.start()
    yield health
    health.stop()


def ask(server: HealthServer, request: bytes) -> tuple[bytes, bytes]:
    """Send bytes, read to the end: head and body."""
    with socket.create_connection(server.address, timeout=20) as sock:
        sock.sendall(request)
        answer = b""
        while data := sock.recv(65536):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


def get(path: str, method: str = "GET", more: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: probe\r\n{more}\r\n".encode()


def test_healthz_is_ok_even_when_not_ready(probes: Probes, state: State) -> None:
    state.ready = False
    assert probes.answer(b"/healthz") == (200, b"text/plain; charset=utf-8", b"ok")


def test_readyz_says_why_not(probes: Probes, state: State) -> None:
    assert probes.answer(b"/readyz") == (200, b"text/plain; charset=utf-8", b"ok")
    state.ready = False
    assert probes.answer(b"/readyz") == (503, b"text/plain; charset=utf-8", b"no agent is connected")


def test_status_is_json(probes: Probes) -> None:
    code, content_type, body = probes.answer(b"/status") or pytest.fail("no answer")
    assert (code, content_type) == (200, b"application/json")
    assert json.loads(body) == {"clusters": {"dev": 1}}


def test_metrics_follow_the_accept_header(probes: Probes) -> None:
    _, content_type, body = probes.answer(b"/metrics") or pytest.fail("no answer")
    assert content_type.startswith(b"text/plain; version=0.0.4")
    assert "argotun_build_info" in {family.name for family in parse(body.decode())}
    _, content_type, body = probes.answer(b"/metrics", "application/openmetrics-text") or pytest.fail(
        "no answer"
    )
    assert content_type.startswith(b"application/openmetrics-text")
    assert "argotun_build_info" in {family.name for family in parse_openmetrics(body.decode())}


def test_the_root_names_what_is_there(probes: Probes) -> None:
    code, content_type, body = probes.answer(b"/", "text/html") or pytest.fail("no answer")
    assert (code, content_type) == (200, b"text/plain; charset=utf-8")
    named = set(re.findall(rb"(?<!\S)/\w+", body))
    assert named == {b"/status", b"/healthz", b"/readyz", b"/metrics"}
    assert all(probes.answer(path) for path in named)


@pytest.mark.parametrize("path", [b"//", b"/healthz/", b"/metrics?x", b"/tunnel/dev/healthz", b"", b"\xff"])
def test_other_paths_are_not_ours(probes: Probes, path: bytes) -> None:
    assert probes.answer(path) is None


@pytest.mark.parametrize(
    ("request_bytes", "status", "body"),
    [
        (get("/healthz"), b"200 OK", b"ok"),
        (get("/healthz?verbose"), b"200 OK", b"ok"),
        (get("/readyz", "HEAD"), b"200 OK", b""),
        (get("/connect"), b"404 Not Found", b"not found"),
        (get("/healthz", "DELETE"), b"405 Method Not Allowed", b"only GET and HEAD"),
        (get("/healthz", "POST", "Content-Length: 2\r\n") + b"hi", b"405 Method Not Allowed", None),
        (get("/healthz", more="X: y\r\n" * 500), b"400 Bad Request", b""),
        (b"nonsense\r\n\r\n", b"400 Bad Request", b""),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", b"400 Bad Request", b""),
    ],
)
def test_the_port_answers(
    server: HealthServer,
    capfd: pytest.CaptureFixture[str],
    request_bytes: bytes,
    status: bytes,
    body: bytes | None,
) -> None:
    head, found = ask(server, request_bytes)
    assert head.split(b" ", 1)[1].startswith(status)
    assert body is None or found == body
    assert b"connection: close" in head.lower()
    assert capfd.readouterr() == ("", "")


def test_not_ready_is_503_on_the_port(server: HealthServer, state: State) -> None:
    state.ready = False
    head, body = ask(server, get("/readyz"))
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable")
    assert body == b"no agent is connected"


@pytest.mark.parametrize("sent", [b"", b"GET /heal", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"])
def test_a_silent_client_is_sent_away(
    server: HealthServer, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(module, "REQUEST_TIME", 0.1)
    assert ask(server, sent) == (b"", b"")


def test_silent_clients_do_not_keep_a_probe_out(
    probes: Probes, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "REQUEST_TIME", 0.2)
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 4)
    health = HealthServer("127.0.0.1", 0, probes)
    health.start()
    silent = [socket.create_connection(health.address) for _ in range(10)]
    try:
        assert ask(health, get("/healthz"))[1] == b"ok"
    finally:
        for sock in silent:
            sock.close()
        health.stop()
    assert capfd.readouterr() == ("", "")


def test_an_answer_that_takes_too_long_is_a_503_without_a_traceback(
    server: HealthServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "REQUEST_TIME", 0.1)
    monkeypatch.setattr(ServerMetrics, "exposition", lambda *_: gevent.event.Event().wait())
    head, body = ask(server, get("/metrics"))
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable")
    assert body == module.LATE[2]
    assert ask(server, get("/healthz"))[1] == b"ok"
    assert capfd.readouterr() == ("", "")


def test_a_client_that_does_not_read_is_cut_without_a_traceback(
    server: HealthServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "REQUEST_TIME", 0.5)
    size = 64 << 20
    monkeypatch.setattr(ServerMetrics, "exposition", lambda *_: (b"x" * size, "text/plain"))
    with socket.create_connection(server.address, timeout=20) as sock:
        sock.sendall(get("/metrics"))
        assert server._server is not None
        with gevent.Timeout(20):
            while not server._server._open:
                gevent.sleep(0.01)
            while server._server._open:
                gevent.sleep(0.01)
        taken = sock.recv(1 << 20)
        while data := sock.recv(1 << 20):
            taken += data
    assert f"Content-Length: {size}".encode() in taken
    assert len(taken) < size
    assert capfd.readouterr() == ("", "")


def test_stop_frees_the_port(server: HealthServer) -> None:
    server.stop()
    with pytest.raises(OSError, match="refused"), gevent.Timeout(20):
        socket.create_connection(server.address)


def test_a_port_in_use_is_named_with_its_option(server: HealthServer, probes: Probes) -> None:
    host, port = server.address
    with pytest.raises(ConfigError, match=rf"--health-addr: '{host}:{port}' .*in use"):
        HealthServer(host, port, probes).start()


def test_an_ipv6_address_that_is_taken_is_named_with_its_brackets(probes: Probes) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"--health-addr: '\[::1\]:{port}' "):
            HealthServer("::1", port, probes).start()


def test_an_empty_host_listens_on_ipv4(probes: Probes) -> None:
    health = HealthServer("", 0, probes)
    health.start()
    try:
        with socket.create_connection(("127.0.0.1", health.address[1]), timeout=20) as sock:
            sock.sendall(get("/healthz"))
            assert sock.recv(100).startswith(b"HTTP/1.1 200")
    finally:
        health.stop()


def test_a_probe_is_answered_beside_hundreds_that_say_nothing(server: HealthServer) -> None:
    """Half of them begin a head and do not end it."""
    crowd = [socket.create_connection(server.address, timeout=20) for _ in range(400)]
    for sock in crowd[::2]:
        try:
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: ")
        except OSError:
            # Dropped by then.
            pass
    head, body = ask(server, get("/healthz"))
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body == b"ok"
    for sock in crowd:
        sock.close()


def test_a_head_that_is_not_ended_in_a_second_is_over(
    server: HealthServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEAD_TIME", 0.1)
    assert ask(server, b"GET /healthz HTTP/1.1\r\nHost: ") == (b"", b"")
