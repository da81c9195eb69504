"""The first steps of the system before this one, typed into terminals: server, agent, curl."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.parity.processes import program
from tests.rig import Api, Peer


@pytest.fixture
def api() -> Iterator[Api]:
    """An API without TLS that answers with the credential that it was shown."""

    def script(peer: Peer) -> None:
        while True:
            head = peer.head().decode()
            body = next(line for line in head.split("\r\n") if line.startswith("Authorization"))
            peer.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())

    served = Api(script, tls=False)
    served.start(None)  # type: ignore[arg-type]
    yield served
    served.close()


@pytest.fixture
def account(tmp_path: Path) -> str:
    path = tmp_path / "account"
    path.write_text("account-token")
    return str(path)


SERVER = ("--mode", "server", "--addr", "127.0.0.1:0", "--internal-addr", "127.0.0.1:0")
LISTENS = r"server listens public=(\S+) internal=(\S+)"


def get(url: str, **headers: str) -> requests.Response:
    session = requests.Session()
    session.trust_env = False
    return session.get(url, headers=headers, timeout=10)


def test_three_terminals_reach_the_api(api: Api, account: str, tmp_path: Path) -> None:
    target = f"127.0.0.1:{api.port}"
    clusters = tmp_path / "clusters.json"
    clusters.write_text(json.dumps([{"id": "dev", "token": "token-of-the-dev", "targetAddr": target}]))
    with program(*SERVER, "--clusters", str(clusters), "--log-level", "debug") as server:
        public, internal = server.say(LISTENS).groups()
        assert get(f"http://{internal}/healthz").text == "ok"
        assert get(f"http://{internal}/readyz").status_code == 503
        agent_argv = ("--mode", "agent", "--server", f"ws://{public}/connect", "--token", "token-of-the-dev")
        agent_argv += ("--target", target, "--plain-target", "--sa-token-path", account)
        agent_argv += ("--allow-insecure-server", "--health-addr", "off", "--log-level", "debug")
        with program(*agent_argv) as agent:
            server.say("agent connected cluster=dev")
            answer = get(
                f"http://{internal}/tunnel/dev/api/v1/namespaces", Authorization="Bearer of-the-client"
            )
            assert (answer.status_code, answer.text) == (200, "Authorization: Bearer account-token")
            assert get(f"http://{internal}/readyz").text == "ok"
            assert agent.end() == 0
        assert server.end() == 0


def test_the_environment_names_of_old_count(api: Api, account: str) -> None:
    clusters = json.dumps([{"id": "dev", "token": "token-of-the-dev"}])
    with program(*SERVER, CLUSTERS=clusters) as server:
        public, internal = server.say(LISTENS).groups()
        argv = ("--mode", "agent", "--target", f"127.0.0.1:{api.port}", "--plain-target")
        argv += ("--sa-token-path", account, "--allow-insecure-server", "--health-addr", "off")
        with program(*argv, SERVER_URL=f"ws://{public}/connect", TOKEN="token-of-the-dev"):
            server.say("agent connected cluster=dev")
            assert get(f"http://{internal}/tunnel/dev/api").status_code == 200


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_an_agent_listens_on_its_health_port_only(api: Api, account: str) -> None:
    clusters = json.dumps([{"id": "dev", "token": "token-of-the-dev"}])
    with program(*SERVER, CLUSTERS=clusters) as server:
        public, _ = server.say(LISTENS).groups()
        assert len(server.listening()) == 2
        argv = (
            "--mode",
            "agent",
            "--server",
            f"ws://{public}",
            "--token",
            "token-of-the-dev",
            "--plain-target",
        )
        argv += ("--target", f"127.0.0.1:{api.port}", "--sa-token-path", account, "--allow-insecure-server")
        for health, ports in (("off", 0), ("127.0.0.1:0", 1)):
            with program(*argv, "--health-addr", health) as agent:
                server.say("agent connected cluster=dev")
                agent.say("connected server=")
                assert len(agent.listening()) == ports
