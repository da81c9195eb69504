"""`argotun status URL`: against real ports, its exit code, and a sentence for each way in which it fails."""

import json
import re
import socket as plain_socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gevent.server import StreamServer

from argotun import cli
from argotun.observe.words import troubles
from bench.ports import held
from tests.rig import Rig, until

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run it with these arguments: exit code, stdout and stderr."""
    monkeypatch.setattr("argotun.observe.logs.setup", lambda *_: None)
    monkeypatch.setattr("argotun.cli.forbid_core_dumps", lambda: None)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(["status", *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig(server={"health_addr": ("127.0.0.1", 0)}, agent={"health_addr": ("127.0.0.1", 0)}) as rig:
        yield rig


def at(address: tuple[str, int], scheme: str = "http") -> str:
    return f"{scheme}://{address[0]}:{address[1]}"


def test_a_server_that_is_well_is_0(rig: Rig, run: Run) -> None:
    code, out, err = run(at(rig.server.internal_address))
    # trustme's certificates last longer than two weeks.
    assert (code, err) == (0, ""), out
    assert "\nc1 " in out
    assert out.endswith("✓ all is well\n")


def test_the_health_ports_of_both_are_understood(rig: Rig, run: Run) -> None:
    assert rig.server._health is not None
    assert rig.agent.health is not None
    code, out, _ = run(at(rig.server._health.address) + "/status")
    assert (code, "\n1 of 1 " in out) == (0, True)
    code, out, _ = run("--status-url", at(rig.agent.health.address))
    assert (code, "argotun agent " in out) == (0, True)


def test_a_cluster_without_an_agent_is_1(run: Run) -> None:
    with Rig(agent=None) as rig:
        code, out, err = run(at(rig.server.internal_address))
        assert (code, err) == (1, "")
        assert "✗ cluster c1 has no agent: none was here since the server started" in out


def test_who_must_say_who_asks_is_told_how(run: Run) -> None:
    with Rig(server={"internal_plain": False}) as rig:
        url, ca = at(rig.server.internal_address, "https"), rig.authority.path("ca.pem")
        code, out, err = run(url, "--status-ca-cert", ca)
        assert (code, out) == (1, "")
        # The reason may come too late to be read: the hint is there in either case.
        assert re.search("(and got none|may want to know who asks); --status-client-cert", err)
        code, _, err = run(url)
        assert (code, "; --status-ca-cert names the CA" in err) == (1, True)
        code, _, err = run(at(rig.server.internal_address), "--status-ca-cert", ca)
        assert (code, "; a port with TLS wants https://" in err) == (1, True)
        mine = {
            name: (
                "--status-client-cert",
                rig.authority.path(f"{name}.pem"),
                "--status-client-key",
                rig.authority.path(f"{name}.key"),
            )
            for name in ("agent", "argocd")
        }
        code, _, err = run(url, "--status-ca-cert", ca, *mine["agent"])
        assert code == 1
        assert f"{url}/status refuses (503): " in err
        assert "the certificate of " in err
        code, out, err = run(url, "--status-ca-cert", ca, *mine["argocd"])
        assert (code, err) == (0, "")


def test_nobody_there_is_a_sentence(run: Run) -> None:
    with held() as port:
        url = at(port.getsockname())
        assert run(url) == (1, "", f"argotun: {url}/status cannot be asked: connection refused\n")
    code, _, err = run("http://no-such-name.invalid")
    assert (code, "the name cannot be resolved" in err) == (1, True)


def test_https_to_a_plain_port_is_a_sentence(rig: Rig, run: Run) -> None:
    code, _, err = run(at(rig.server.internal_address, "https"))
    assert code == 1
    assert err.endswith("does not speak TLS on this port; http:// in place of https://\n")


ANSWERS = {
    "page": b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
    "other json": b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"status":"ok"}',
    "list": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
    "deep": b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"[" * 200000,
    "not found": b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "nothing": b"",
    "no http": b"SSH-2.0-OpenSSH_9.9\r\n",
    "cut": b"HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n{",
    "bad length": b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}",
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "bad gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nxx",
    "escape": b'HTTP/1.1 503 No\r\nContent-Length: 34\r\n\r\n{"message": "argotun: \\u001b[31m no"}',
}


@pytest.fixture
def serving() -> Iterator[Callable[[bytes], str]]:
    """A port that gives everybody the same bytes, and closes."""
    servers: list[StreamServer] = []

    def serving(data: bytes) -> str:
        def handle(sock: plain_socket.socket, _peer: object) -> None:
            sock.recv(65536)
            sock.sendall(data)

        server = StreamServer(("127.0.0.1", 0), handle)
        server.start()
        servers.append(server)
        return at(server.address)

    yield serving
    for server in servers:
        server.stop(timeout=0)


@pytest.mark.parametrize("data", ANSWERS.values(), ids=ANSWERS)
def test_something_else_is_a_sentence(serving: Callable[[bytes], str], run: Run, data: bytes) -> None:
    url = serving(data)
    code, out, err = run(url)
    assert (code, out) == (1, "")
    assert err.startswith(f"argotun: {url}/status ")
    assert err.endswith("\n")
    assert err[:-1].isprintable()


def test_an_answer_without_end_is_not_kept(
    serving: Callable[[bytes], str], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("argotun.status.ask.LARGEST", 1000)
    body = b" " * 5000
    url = serving(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    assert run(url)[2].endswith("answers with more than 1000 bytes: that is no argotun\n")


def test_a_token_goes_over_tls_alone_and_into_no_message(tmp_path: Path, run: Run) -> None:
    token = tmp_path / "token"
    token.write_text("secret-of-a-caller\n")
    code, _, err = run("http://127.0.0.1:1", "--status-token-file", str(token))
    assert (code, "--status-token-file is for https:// alone" in err) == (2, True)
    token.write_text("two words")
    code, _, err = run("https://127.0.0.1:1", "--status-token-file", str(token))
    assert (code, "a file that holds one token" in err, "two words" in err) == (2, True, False)


@pytest.mark.parametrize("url", ["ftp://x", "http://user:pw@h", "http://", "http://h:0", "://"])
def test_what_is_no_url_is_a_usage_error(run: Run, url: str) -> None:
    code, _, err = run(url)
    assert code == 2
    assert "such as http://127.0.0.1:8080" in err
    assert "pw" not in err or "user" not in url


def test_one_word_is_the_url_and_more_are_an_error(run: Run) -> None:
    assert run("http://127.0.0.1:1", "http://127.0.0.1:2")[0] == 2


def test_table_and_exit_code_go_by_the_same_sentences(rig: Rig, run: Run) -> None:
    rig.write_clusters([{"id": "c1", "token": Rig.TOKEN}, {"id": "c2", "token": "token-of-agent-c2"}])
    until(lambda: "c2" in rig.server.clusters.clusters, "the clusters")
    try:
        code, out, _ = run(at(rig.server.internal_address))
        (sentence,) = troubles(rig.get("/status").json())
        assert (code, out.endswith(f"✗ {sentence}\n")) == (1, True)
    finally:
        rig.write_clusters([{"id": "c1", "token": Rig.TOKEN}])
        until(lambda: "c2" not in rig.server.clusters.clusters, "the clusters")


def test_the_json_is_not_changed_on_the_way(serving: Callable[[bytes], str], run: Run) -> None:
    body = json.dumps({"mode": "server", "version": "9.9.9", "clusters": {}}).encode()
    code, out, _ = run(serving(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)))
    assert (code, out.splitlines()[0]) == (0, "argotun server 9.9.9")
