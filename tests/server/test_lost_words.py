"""The words by which the example lost-cluster.yaml knows a lost cluster are those that argotun says."""

import re
from pathlib import Path

import pytest
import yaml

from tests.rig import Api, Peer, Rig

EXAMPLE = Path(__file__).parents[2] / "examples" / "notifications" / "lost-cluster.yaml"


@pytest.fixture(scope="module")
def words() -> "re.Pattern[str]":
    data = yaml.safe_load(EXAMPLE.read_text())["data"]
    [trigger] = yaml.safe_load(data["trigger.on-cluster-lost"])
    first, second = re.findall(r'matches "([^"]+)"', trigger["when"])
    assert first == second
    return re.compile(first)


@pytest.mark.parametrize("path", ["/api/v1/pods", "/version"])
def test_a_cluster_without_an_agent_is_known_by_them(path: str, words: "re.Pattern[str]") -> None:
    with Rig(agent=None) as rig:
        for cluster in ("c1", "nowhere"):
            assert words.search(rig.get(f"/tunnel/{cluster}{path}").body.decode())


def test_an_api_that_is_away_is_known_by_them(words: "re.Pattern[str]") -> None:
    with Rig() as rig:
        rig.api.stop()
        assert words.search(rig.get().body.decode())


def test_a_tunnel_that_is_lost_is_known_by_them(words: "re.Pattern[str]") -> None:
    def script(peer: Peer) -> None:
        peer.head()
        rig.agent.stop()

    with Rig(Api(script)) as rig:
        client = rig.client()
        client.send(b"POST /tunnel/c1/api HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        assert words.search(client.response("POST").body.decode())


def test_a_policys_refusal_is_not(words: "re.Pattern[str]", tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("presets: [no-secrets]\n")
    with Rig(agent={"policy": str(policy)}) as rig:
        body = rig.get("/tunnel/c1/api/v1/secrets").body.decode()
        assert "argotun: " in body
        assert not words.search(body)
