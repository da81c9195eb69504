"""A kubeconfig's exec plugin gives the agent's credential, and another one before that ends."""

import base64
import json
import os
import stat
import time
from pathlib import Path

import gevent
import pytest
import yaml

from argotun.demo import plugin
from argotun.demo.kubeconfig import Target, read
from argotun.demo.plugin import Plugin
from argotun.errors import ArgotunError
from tests.rig import until

VERSION = "client.authentication.k8s.io/v1"


@pytest.fixture
def script(tmp_path: Path):
    """An exec entry whose program is a shell script with such a body."""

    def script(body: str, **more: object) -> dict[str, object]:
        path = tmp_path / "plugin"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o700)
        return {"apiVersion": VERSION, "command": "./plugin", "interactiveMode": "Never", **more}

    return script


def given(**status: str) -> str:
    """A body that prints this credential."""
    return f"echo '{json.dumps({'apiVersion': VERSION, 'kind': 'ExecCredential', 'status': status})}'"


def load(tmp_path: Path, entry: dict[str, object], **cluster: object) -> Target:
    config = {
        "current-context": "one",
        "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://api.example.org:6443", **cluster}}],
        "users": [{"name": "u", "user": {"exec": entry}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    made = tmp_path / "made"
    made.mkdir()
    return read(str(tmp_path / "kubeconfig"), None, made)


def test_its_token_is_the_agents(tmp_path, script):
    found = load(tmp_path, script(given(token="of-the-plugin", expirationTimestamp="2100-01-01T00:00:00Z")))
    assert Path(found.agent.sa_token_path).read_text() == "of-the-plugin"
    assert stat.S_IMODE(os.stat(found.agent.sa_token_path).st_mode) == 0o600
    assert found.ends == 4102444800.0


def test_its_certificate_is_the_agents(tmp_path, script):
    found = load(tmp_path, script(given(clientCertificateData="CERT", clientKeyData="KEY")))
    texts = [
        Path(each).read_text()
        for each in (found.agent.target_client_cert, found.agent.target_client_key)
        if each
    ]
    assert texts == ["CERT", "KEY"]
    assert found.agent.sa_token_path == ""


def test_it_hears_of_the_cluster_and_gets_its_arguments_and_environment(tmp_path, script):
    said = tmp_path / "said"
    body = f'printf "%s|%s|%s" "$1" "$REGION" "$KUBERNETES_EXEC_INFO" > {said}\n' + given(token="t")
    entry = script(body, args=["get-token"], env=[{"name": "REGION", "value": "eu"}], provideClusterInfo=True)
    ca = base64.b64encode(b"CA").decode()
    load(tmp_path, entry, **{"certificate-authority-data": ca})
    argument, region, info = said.read_text().split("|")
    assert (argument, region) == ("get-token", "eu")
    spec = json.loads(info)["spec"]
    assert spec["interactive"] is False
    assert spec["cluster"]["certificate-authority-data"] == ca


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("echo 'log in first' >&2; exit 3", "it ended with 3: log in first"),
        ("echo nothing", "it printed no ExecCredential"),
        ("echo '[]'", "it printed no ExecCredential"),
        (given(), "neither a token nor a certificate with its key"),
        (given(clientCertificateData="CERT"), "neither a token nor a certificate with its key"),
        (given(token="t", expirationTimestamp="soon"), "it printed no ExecCredential"),
        (given(token="t").replace("/v1", "/v9"), f"it gave no ExecCredential of {VERSION}"),
    ],
)
def test_one_that_gives_no_credential_gets_a_sentence(tmp_path, script, body, words):
    with pytest.raises(ArgotunError) as refused:
        load(tmp_path, script(body))
    assert str(refused.value).startswith("the exec plugin ./plugin: ")
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"command": "no-such-plugin", "installHint": "get it\n"}, "there is no such program: get it"),
        ({"command": ""}, "needs a command"),
        ({"args": "x"}, "a list args"),
        ({"apiVersion": "v1"}, f"expected apiVersion {VERSION}"),
        ({"interactiveMode": "Always"}, "asks questions"),
    ],
)
def test_an_entry_that_cannot_be_run_gets_a_sentence(tmp_path, script, more, words):
    with pytest.raises(ArgotunError, match=words):
        load(tmp_path, {**script(given(token="t")), **more})


def test_another_token_takes_the_place_of_one_that_ends(tmp_path, script, monkeypatch):
    monkeypatch.setattr(plugin, "LEAST", 0.01)
    count = tmp_path / "count"
    # The second run fails: the one after it counts.
    body = f'echo x >> {count}; [ "$(wc -l < {count})" -gt 1 ] || exit 1\n' + given(token="second")
    file = tmp_path / "token"
    file.write_text("first")
    program = Plugin(script(body), {}, tmp_path)
    renewing = gevent.spawn(program.renew, str(file), time.time())
    try:
        until(lambda: file.read_text() == "second", "another token", 30.0)
        renewing.join(30.0)
        assert renewing.ready(), "a token without an end is not asked for again"
    finally:
        renewing.kill()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
