"""What `--print-config` says of the files that the options name: what they hold, and never a secret."""

import datetime
import json
import re
from pathlib import Path

import pytest

from tests.rig import Authority
from tests.secrecy import watch

TOKEN = "0123456789abcdef0123456789abcdef-of-c1"
OTHER = "fedcba9876543210fedcba9876543210-of-argocd"


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def server(authority, tmp_path):
    """A server with every file that it may have."""
    watch.hold(TOKEN, OTHER)
    entries = [{"id": "c1", "token": TOKEN, "certNames": ["c1"]}, {"id": "c2", "token": TOKEN + "-2"}]
    (tmp_path / "clusters.json").write_text(json.dumps(entries))
    callers = [{"name": "argocd", "clusters": "*"}, {"name": "ci", "clusters": ["c1"], "readOnly": True}]
    (tmp_path / "callers.json").write_text(json.dumps(callers))
    (tmp_path / "revoked").write_text(f"name lost\nsha256 {'ab' * 32}\nname stolen\n")
    files = {
        "--clusters": tmp_path / "clusters.json",
        "--callers": tmp_path / "callers.json",
        "--revoked": tmp_path / "revoked",
        "--tls-cert": authority.path("server.pem"),
        "--tls-key": authority.path("server.key"),
        "--tls-client-ca": authority.path("ca.pem"),
    }
    return ["--mode", "server", "--print-config", *(str(each) for pair in files.items() for each in pair)]


@pytest.fixture
def agent(authority, tmp_path):
    """An agent with every file that it may have."""
    watch.hold(TOKEN, OTHER)
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "account").write_text(OTHER)
    (tmp_path / "policy.yaml").write_text("presets: [no-shell]\n")
    files = {
        "--server": "wss://hub.example/connect",
        "--token-file": tmp_path / "token",
        "--server-ca-cert": authority.path("ca.pem"),
        "--client-cert": authority.path("agent.pem"),
        "--client-key": authority.path("agent.key"),
        "--ca-cert": authority.path("ca.pem"),
        "--sa-token-path": tmp_path / "account",
        "--policy": tmp_path / "policy.yaml",
    }
    return ["--mode", "agent", "--print-config", *(str(each) for pair in files.items() for each in pair)]


def said(outcome):
    """The comments about files, by what they are about."""
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.partition("\n# The files, as they are now:\n")[2].splitlines()
    return dict(line.removeprefix("# ").split(": ", 1) for line in lines)


def test_a_servers_files_are_told_by_names_ends_and_counts(argotun, server, authority, tmp_path):
    outcome = argotun(server)
    files = said(outcome)
    assert files["clusters"] == "2 clusters: c1, c2"
    assert files["callers"] == "2 callers: argocd, ci"
    assert files["revoked"] == f"--revoked {tmp_path / 'revoked'} lists 1 fingerprint and 2 names"
    own = f"the certificate in {authority.path('server.pem')} is that of 127.0.0.1, localhost, and ends on "
    assert files["certificates.own"].startswith(own)
    assert files["certificates.ca"].startswith(f"the CA in {authority.path('ca.pem')} ends on ")
    assert TOKEN not in outcome.out


def test_an_agents_files_are_told_by_names_ends_and_counts(argotun, agent, authority, tmp_path):
    outcome = argotun(agent)
    files = said(outcome)
    assert files["server.token"] == f"there is a token, by --token-file {tmp_path / 'token'}"
    assert files["server.cert"].startswith("this agent's certificate is that of agent.example, c1, c2, c3 ")
    assert files["server.ca"].startswith(f"the CA in {authority.path('ca.pem')} ends on ")
    assert files["api.token"] == f"there is a token, by --sa-token-path {tmp_path / 'account'}"
    assert re.search(r"the policy \(\d+ rules in force\) ", files["policy"])
    assert files["api.ca"].startswith(f"the CA in {authority.path('ca.pem')} ends on ")
    assert TOKEN not in outcome.out
    assert OTHER not in outcome.out


def test_what_is_printed_of_files_can_be_read_again(argotun, agent):
    printed = argotun(agent).out
    once = [word for word in agent if word != "--print-config"]
    assert argotun([], config_file=printed).config == argotun(once).config


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("clusters.json", '[{"id": "c1"', "--clusters"),
        ("callers.json", "[{}]", "--callers"),
        ("revoked", "fingerprint x\n", "--revoked"),
        ("server.pem", "no certificate", "--tls-cert"),
    ],
)
def test_a_servers_file_that_cannot_be_used_is_one_sentence(argotun, server, tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    outcome = argotun(server)
    assert outcome.code == 2
    assert outcome.out.startswith("mode: server\n")
    [line] = outcome.err.splitlines()
    assert line.startswith(f"argotun: {words}")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("policy.yaml", "--policy"),
        ("token", "--token-file"),
        ("account", "the token file"),
        ("agent.pem", "--client-cert"),
    ],
)
def test_an_agents_file_that_cannot_be_used_is_one_sentence(argotun, agent, tmp_path, name, words):
    Path(tmp_path / name).write_text("")
    outcome = argotun(agent)
    assert outcome.code == 2
    [line] = outcome.err.splitlines()
    assert line.startswith(f"argotun: {words}")


def test_a_certificate_that_has_ended_is_told_and_no_error(argotun, server, authority):
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=3)
    authority.issue("server", "127.0.0.1", not_before=past - datetime.timedelta(days=9), not_after=past)
    files = said(argotun(server))
    assert files["certificates.own"].startswith("(!) ")
    assert "and ended on " in files["certificates.own"]
