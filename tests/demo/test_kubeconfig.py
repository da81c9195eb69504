"""A kubeconfig becomes what an agent is told, or a sentence about why not."""

import base64
import os
import stat

import pytest
import yaml

from argotun.demo.kubeconfig import read
from argotun.errors import ConfigError


def config(cluster=None, user=None, **more):
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://api.example.org:6443", **(cluster or {})}}],
        "users": [{"name": "u", "user": {"token": "t"} if user is None else user}],
        **more,
    }


@pytest.fixture
def load(tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    path = tmp_path / "kubeconfig"

    def load(content, context=None):
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return read(str(path), context, folder)

    return load


def data(text):
    return base64.b64encode(text.encode()).decode()


def test_embedded_material_is_readable_by_its_owner_alone(load):
    user = {"client-certificate-data": data("CERT"), "client-key-data": data("KEY"), "token": "t"}
    found = load(config({"certificate-authority-data": data("CA"), "tls-server-name": "name"}, user))
    agent = found.agent
    assert agent.target == ("api.example.org", 6443)
    assert (agent.target_host_name, agent.plain_target, agent.insecure, found.context) == (
        "name",
        False,
        False,
        "one",
    )
    for path, content in (
        (agent.ca_cert, "CA"),
        (agent.target_client_cert, "CERT"),
        (agent.target_client_key, "KEY"),
        (agent.sa_token_path, "t"),
    ):
        with open(path) as file:
            assert file.read() == content
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_paths_count_from_the_kubeconfig(load, tmp_path, monkeypatch):
    for name in ("ca", "crt", "key", "tok"):
        (tmp_path / name).write_text(name)
    monkeypatch.chdir("/")
    user = {"client-certificate": "crt", "client-key": "./key", "tokenFile": "tok", "token": "older"}
    agent = load(config({"certificate-authority": str(tmp_path / "ca")}, user)).agent
    expected = [str(tmp_path / name) for name in ("ca", "crt", "key", "tok")]
    assert [agent.ca_cert, agent.target_client_cert, agent.target_client_key, agent.sa_token_path] == expected


@pytest.mark.parametrize(
    ("server", "address", "plain"),
    [
        ("https://h", ("h", 443), False),
        ("https://h/", ("h", 443), False),
        ("http://h", ("h", 80), True),
        ("http://127.0.0.1:8001", ("127.0.0.1", 8001), True),
        ("https://[::1]:6443", ("::1", 6443), False),
    ],
)
def test_server_becomes_an_address(load, server, address, plain):
    agent = load(config({"server": server, "insecure-skip-tls-verify": True})).agent
    assert (agent.target, agent.plain_target, agent.insecure, agent.ca_cert) == (address, plain, True, None)


def test_the_named_context_is_used(load):
    content = config(
        contexts=[
            {"name": "one", "context": {"cluster": "nope", "user": "u"}},
            {"name": "two", "context": {"cluster": "c", "user": "u"}},
        ]
    )
    assert load(content, "two").context == "two"
    with pytest.raises(ConfigError, match="one, two") as refused:
        load(content, "three")
    assert refused.value.option == "--context"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "contexts, clusters and users"),
        ("[]", "contexts, clusters and users"),
        ("{", "YAML"),
        ("a: [" * 5000, "YAML"),
        (config(**{"current-context": ""}), "--context"),
        (config(contexts=None), "'one' under contexts"),
        (config(contexts=[{"name": "one"}]), "'one' under contexts"),
        (config(clusters=[]), "'c' under clusters"),
        (config(users="x"), "'u' under users"),
        (config(user={}), "neither"),
        (config(user={"auth-provider": {"name": "gcp"}}), "auth providers are not supported"),
        (config(user={"username": "u", "password": "p"}), "passwords are not supported"),
        (config(user={"token": "t", "as": "x"}), "impersonation"),
        (config({"proxy-url": "http://p:1"}), "proxy-url"),
        (config({"server": "api.example.org:6443"}), "https://host:port"),
        (config({"server": "https://"}), "https://host:port"),
        (config({"server": "https://h:99999"}), "https://host:port"),
        (config({"server": "https://h/k8s/clusters/c-1"}), "without a path"),
        (config({"certificate-authority-data": "%%%"}), "base64"),
        (config({"certificate-authority": "nope"}), "nope"),
        (config(user={"client-certificate-data": data("c")}), "not one alone"),
        (config(user={"tokenFile": "nope"}), "tokenFile"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_gets_a_sentence(load, content, words):
    with pytest.raises(ConfigError) as refused:
        load(content)
    assert words in str(refused.value)
    assert refused.value.option == "--kubeconfig"


def test_a_missing_file_gets_a_sentence(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read(str(tmp_path / "nope"), None, tmp_path)
