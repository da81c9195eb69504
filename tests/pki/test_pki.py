"""`--mode pki`: what it makes serves those whom it was made for, and a second run loses nothing."""

import base64
import json
import shutil
import ssl
import time
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec

from argotun import cli
from argotun.config import PkiConfig
from argotun.config.network import parse_server_url
from argotun.observe import logs
from argotun.pki.folder import Folder
from argotun.pki.openssl import Authority, KeyPair
from argotun.server.auth import Tokens, certificate_allowed
from argotun.server.clusters import ClustersFile
from argotun.transport import certificates
from tests.tokens import Issuer

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="the openssl program is not installed")

URL = "wss://argotun.example.com:443/connect"


@pytest.fixture
def pki(tmp_path, capsys, monkeypatch):
    """Run the mode in a folder; `pki(…)` gives the folder, and fails when the exit code is another."""
    # The log of this process stays as it is.
    monkeypatch.setattr(logs, "setup", lambda *_: None)
    folder = tmp_path / "new" / "pki"

    def run(*options, clusters="customer-a,customer-b", code=0):
        argv = ["--mode", "pki", "--pki-folder", str(folder), "--pki-server", URL, *options]
        if clusters:
            argv += ["--pki-clusters", clusters]
        assert cli.main(argv) == code, capsys.readouterr().err
        return folder

    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder that no test changes."""
    folder = tmp_path_factory.mktemp("pki")
    config = PkiConfig(
        pki_folder=str(folder),
        pki_server=parse_server_url(URL),
        pki_clusters=("customer-a", "customer-b"),
        pki_names=("192.0.2.7", "other.example.com"),
    )
    Folder(config).fill()
    return folder


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str):
    """A whole TLS handshake in memory; the certificate that the client showed. Raises ssl.SSLError."""
    upwards, downwards = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(downwards, upwards, server_hostname=name),
        server.wrap_bio(upwards, downwards, server_side=True),
    ]
    for _ in range(10):
        for side in list(sides):
            try:
                side.do_handshake()
                sides.remove(side)
            except ssl.SSLWantReadError:
                continue
            if not sides:
                return side.getpeercert()
    raise AssertionError("the handshake does not end")


def server_context(folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=folder / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    return context


def client_context(ca: Path, cert: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)
    context.load_cert_chain(cert, cert.with_suffix(".key"))
    return context


@pytest.mark.parametrize(
    "name",
    [
        "argotun.example.com",
        "192.0.2.7",
        "argotun-internal.argotun.svc",
        "argotun.argotun.svc.cluster.local",
        "argotun",
    ],
)
@pytest.mark.parametrize("client", ["agents/customer-a/tls.crt", "argocd.crt"])
def test_the_two_sides_trust_each_other(made, name, client):
    shown = shake_hands(server_context(made), client_context(made / "ca.crt", made / client), name)
    assert shown


def test_the_server_does_not_pass_for_another_host(made):
    client = client_context(made / "ca.crt", made / "argocd.crt")
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake_hands(server_context(made), client, "elsewhere.example.com")


def test_the_certificate_of_the_server_lets_no_agent_in(made):
    client = client_context(made / "ca.crt", made / "server.crt")
    with pytest.raises(ssl.SSLError, match="unsuitable certificate purpose"):
        shake_hands(server_context(made), client, "argotun.example.com")


def test_an_agent_does_not_speak_for_another_cluster(pki):
    long, longer = "c" * 127, "c" * 128
    folder = pki(clusters=f"customer-a,customer-b,{long},{longer}")
    entries = [{"id": each, **entry} for each, entry in server_values(folder)["clusters"].items()]
    (folder / "clusters.json").write_text(json.dumps(entries))
    clusters = ClustersFile(str(folder / "clusters.json"))
    clusters.load()
    assert set(clusters.clusters) == {"customer-a", "customer-b", long, longer}
    server = server_context(folder)
    for each in clusters.clusters:
        agent = folder / "agents" / each
        token = (agent / "token").read_text().strip().encode()
        cluster = Tokens(clusters.clusters).owner(b"Bearer " + token)
        assert cluster is not None
        assert cluster.id == each
        client = client_context(folder / "ca.crt", agent / "tls.crt")
        shown = shake_hands(server, client, "argotun")
        allowed = {id_ for id_, entry in clusters.clusters.items() if certificate_allowed(entry, shown, True)}
        assert allowed == {each}


def server_values(folder: Path):
    return yaml.safe_load((folder / "server.yaml").read_text())


def decoded(data: dict[str, str]) -> dict[str, bytes]:
    return {key: base64.b64decode(value, validate=True) for key, value in data.items()}


def test_every_value_holds_its_own_file(made):
    values = server_values(made)
    data = {key: values["tls"][key] for key in ("certData", "keyData", "clientCAData")}
    data |= {key: values["argocd"][key] for key in ("caData", "clientCertData", "clientKeyData")}
    ca = (made / "ca.crt").read_bytes()
    assert decoded(data) == {
        "certData": (made / "server.crt").read_bytes(),
        "keyData": (made / "server.key").read_bytes(),
        "clientCAData": ca,
        "caData": ca,
        "clientCertData": (made / "argocd.crt").read_bytes(),
        "clientKeyData": (made / "argocd.key").read_bytes(),
    }
    agent = made / "agents" / "customer-b"
    values = yaml.safe_load((agent / "agent.yaml").read_text())
    assert values["serverURL"] == URL
    assert values["token"] == (agent / "token").read_text()
    assert decoded(values["tls"]) == {
        "serverCAData": ca,
        "clientCertData": (agent / "tls.crt").read_bytes(),
        "clientKeyData": (agent / "tls.key").read_bytes(),
    }


def test_the_key_of_the_ca_stays_where_it_is(made):
    key = (made / "ca.key").read_text()
    encoded = base64.b64encode(key.encode()).decode()
    for path in made.rglob("*.yaml"):
        assert encoded not in path.read_text()
        assert key not in path.read_text()


def test_no_token_is_in_the_values_of_the_server(made):
    for token in made.glob("agents/*/token"):
        assert token.read_text() not in (made / "server.yaml").read_text()
        assert len(token.read_text()) >= 40


def test_no_key_can_be_read_by_others(made):
    files = [each for each in made.rglob("*") if each.is_file()]
    assert len(files) == 16
    assert {each.stat().st_mode & 0o777 for each in files} == {0o600}


def kept(folder: Path) -> dict[str, bytes]:
    """What customers hold already, and what it depends on."""
    names = ("ca.*", "agents/*/tls.*", "agents/*/token")
    return {str(path.relative_to(folder)): path.read_bytes() for name in names for path in folder.glob(name)}


def test_a_new_cluster_leaves_those_that_are_there_alone(pki):
    before = kept(pki())
    folder = pki(clusters="customer-c")
    after = kept(folder)
    assert before.items() <= after.items()
    assert len(after) == len(before) + 3
    assert list(server_values(folder)["clusters"]) == ["customer-a", "customer-b", "customer-c"]


def test_a_renewal_keeps_the_tokens_and_the_ca(pki):
    before = kept(pki())
    after = kept(pki("--pki-renew", clusters=""))
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {f"agents/customer-{each}/tls.{kind}" for each in "ab" for kind in ("crt", "key")}


def test_a_removed_cluster_is_not_let_in(pki):
    folder = pki()
    shutil.rmtree(folder / "agents" / "customer-a")
    pki(clusters="")
    assert list(server_values(folder)["clusters"]) == ["customer-b"]


def test_every_name_of_the_server_is_kept_at_the_next_run(pki):
    pki()
    folder = pki("--pki-names", "new.example.com", "--pki-release", "eu", "--pki-namespace", "tunnels")
    client = client_context(folder / "ca.crt", folder / "argocd.crt")
    for name in ("new.example.com", "eu-argotun-internal.tunnels.svc"):
        shake_hands(server_context(folder), client, name)


def test_the_commands_that_are_said_name_the_files(pki, capsys):
    folder = pki()
    said = capsys.readouterr().out
    named = {word.rstrip(",") for word in said.split() if word.rstrip(",").endswith("/server.yaml")}
    named |= {word.rstrip(",") for word in said.split() if word.rstrip(",").endswith("/agent.yaml")}
    assert len(named) == 3
    assert all(Path(each).is_file() for each in named)
    assert "customer-b" in said
    assert (folder / "ca.key").read_text() not in said
    pki(clusters="customer-c")
    said = capsys.readouterr().out
    assert "3 clusters" in said
    assert "On customer-c" in said
    assert "On customer-a" not in said


def test_half_a_ca_is_not_replaced(pki, capsys):
    folder = pki()
    (folder / "ca.key").unlink()
    ca = (folder / "ca.crt").read_bytes()
    pki(code=1)
    assert "only one of ca.crt and ca.key" in capsys.readouterr().err
    assert (folder / "ca.crt").read_bytes() == ca


def test_no_certificate_outlives_its_ca(pki, capsys):
    folder = pki()
    authority = Authority(folder)
    assert authority.outlives(365)
    authority.make("short", days=10)
    pki(code=1)
    assert "ends within 365 days" in capsys.readouterr().err
    pki("--pki-days", "9")


def test_a_broken_ca_is_a_sentence(pki, capsys):
    folder = pki()
    (folder / "ca.crt").write_text("nothing")
    pki(code=1)
    assert "argotun: openssl x509 failed: " in capsys.readouterr().err


def test_a_failed_issue_leaves_no_half_of_a_pair(pki):
    folder = pki()
    before = {path: path.read_bytes() for path in folder.glob("server.*")}
    (folder / "ca.key").write_text("nothing")
    pki(code=1)
    assert {path: path.read_bytes() for path in folder.glob("server.*")} == before
    assert not list(folder.glob(".new-*"))


def test_half_a_pair_is_not_taken_for_a_certificate(tmp_path):
    pair = KeyPair(str(tmp_path / "crt"), str(tmp_path / "key"))
    Path(pair.cert).touch()
    assert not pair.exists()
    Path(pair.key).touch()
    assert pair.exists()


def test_a_machine_without_openssl_is_a_sentence(pki, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    pki(code=1)
    assert "the openssl program is needed" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_a_sentence(pki, capsys, tmp_path):
    (tmp_path / "new").write_text("a file")
    pki(code=1)
    err = capsys.readouterr().err
    assert err.startswith("argotun: ")
    assert str(tmp_path / "new") in err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--pki-server", "ws://h"), "shows no certificate: expected a wss:// URL"),
        (("--pki-clusters", "a,,b"), "ids with commas between, each 1 to 128 letters"),
        (("--pki-clusters", "../a"), "ids with commas between, each 1 to 128 letters"),
        (("--pki-names", "a b"), "DNS names or IP addresses without ports, with commas between"),
        (("--pki-names", "a:443"), "DNS names or IP addresses without ports, with commas between"),
        (("--pki-days", "0"), "a whole number of days from 1 to 3650"),
        (("--pki-namespace", "A"), "1 to 63 lower-case letters, digits and dashes"),
        (("--pki-folder", __file__), "a folder, or the name of one to be made"),
    ],
)
def test_a_wrong_option_is_refused(capsys, options, sentence):
    assert cli.main(["--mode", "pki", "--pki-server", URL, *options]) == 2
    assert sentence in capsys.readouterr().err


def test_the_url_that_agents_dial_is_not_guessed(capsys):
    assert cli.main(["--mode", "pki"]) == 2
    assert capsys.readouterr().err.startswith("argotun: --pki-server is not set")


def edited(file: Path, change) -> None:
    """What a person does to a values file."""
    values = yaml.safe_load(file.read_text())
    change(values)
    file.write_text(yaml.safe_dump(values))


def test_what_was_added_to_the_values_is_still_there_after_the_next_run(pki):
    folder = pki()
    more = {"argocd": {"labels": {"region": "eu"}}, "rateLimit": 50}

    def change(values):
        values["clusters"]["customer-a"] |= more
        values["clusters"]["customer-a"]["certNames"].append("an-older-name")
        values["clusters"]["by-hand"] = {"tokenSha256": "0" * 64}
        values["argocd"]["namespace"] = "gitops"
        values["service"] = {"type": "NodePort"}

    def change_agent(values):
        values["rbac"] = {"preset": "read-only"}

    edited(folder / "server.yaml", change)
    edited(folder / "agents" / "customer-b" / "agent.yaml", change_agent)
    before = server_values(folder)
    pki("--pki-renew", clusters="customer-c")
    after = server_values(folder)
    entry = after["clusters"]["customer-a"]
    assert entry == before["clusters"]["customer-a"]
    assert entry["certNames"] == ["customer-a", "an-older-name"]
    assert after["clusters"]["by-hand"] == {"tokenSha256": "0" * 64}
    assert list(after["clusters"]) == ["by-hand", "customer-a", "customer-b", "customer-c"]
    assert after["argocd"]["namespace"] == "gitops"
    assert after["service"] == {"type": "NodePort"}
    assert after["tls"]["certData"] != before["tls"]["certData"]
    agent = yaml.safe_load((folder / "agents" / "customer-b" / "agent.yaml").read_text())
    assert agent["rbac"] == {"preset": "read-only"}


def test_a_list_of_clusters_becomes_a_map_and_loses_nothing(pki):
    folder = pki()

    def change(values):
        values["clusters"] = [{"id": each, **entry} for each, entry in values["clusters"].items()]
        values["clusters"][0]["rateLimit"] = 7

    edited(folder / "server.yaml", change)
    pki(clusters="customer-c")
    clusters = server_values(folder)["clusters"]
    assert list(clusters) == ["customer-a", "customer-b", "customer-c"]
    assert clusters["customer-a"]["rateLimit"] == 7
    assert "id" not in clusters["customer-a"]


@pytest.mark.parametrize("text", ["- a\n", "clusters: 7\n", "a: [\n", "text\n", "clusters: [{}]\n"])
def test_a_values_file_that_is_none_is_not_written_over(pki, capsys, text):
    folder = pki()
    (folder / "server.yaml").write_text(text)
    pki(code=1)
    assert "server.yaml: expected values of the chart; it was left as it is" in capsys.readouterr().err
    assert (folder / "server.yaml").read_text() == text


def test_each_run_says_what_it_did_and_until_when(pki, capsys):
    folder = pki()
    (der,) = certificates.certificates((folder / "server.crt").read_text())
    until = time.strftime("%Y-%m-%d", time.gmtime(certificates.parse(der).not_after))
    said = capsys.readouterr().out
    assert f"made     server.crt, valid until {until}" in said
    assert f"made     agents/customer-a/tls.crt, valid until {until}" in said
    shutil.rmtree(folder / "agents" / "customer-a")
    pki(clusters="")
    said = capsys.readouterr().out
    assert f"renewed  server.crt, valid until {until}" in said
    assert f"kept     agents/customer-b/tls.crt, valid until {until}" in said
    assert "removed  the entry of customer-a" in said
    assert "1 cluster have" not in said
    assert "On customer-b" not in said


def test_customers_whose_values_changed_are_named(pki, capsys):
    pki()
    capsys.readouterr()
    pki("--pki-server", "wss://other.example.com/connect", clusters="customer-c")
    said = capsys.readouterr().out
    assert all(f"On customer-{each}" in said for each in "abc")


def test_every_values_file_of_the_folder_is_in_the_command(pki, capsys):
    folder = pki()
    assert "No values say how agents reach" in capsys.readouterr().out
    pki(
        "--pki-exposure", "load-balancer", "--pki-context", "hub eu", "--pki-chart", "oci://r.example/argotun"
    )
    assert yaml.safe_load((folder / "exposure.yaml").read_text()) == {
        "service": {"type": "LoadBalancer", "port": 443}
    }
    (folder / "monitoring.yaml").write_text("serviceMonitor: {enabled: true}\n")
    edited(folder / "exposure.yaml", lambda values: values["service"].update(annotations={"a": "b"}))
    capsys.readouterr()
    pki(clusters="customer-c")
    said = capsys.readouterr().out
    assert "No values say" not in said
    (line,) = (line for line in said.splitlines() if "server.yaml" in line)
    assert line.endswith(f"-f {folder}/server.yaml -f {folder}/exposure.yaml -f {folder}/monitoring.yaml")
    assert yaml.safe_load((folder / "exposure.yaml").read_text())["service"]["annotations"] == {"a": "b"}
    pki(
        "--pki-exposure", "load-balancer", "--pki-context", "hub eu", "--pki-chart", "oci://r.example/argotun"
    )
    said = capsys.readouterr().out
    assert "helm --kube-context 'hub eu' upgrade --install argotun oci://r.example/argotun" in said


@pytest.mark.parametrize(("port", "service"), [(31443, {"nodePort": 31443}), (443, {})])
def test_a_node_port_is_the_port_that_agents_dial(pki, port, service):
    folder = pki("--pki-exposure", "node-port", "--pki-server", f"wss://argotun.example.com:{port}/connect")
    exposure = yaml.safe_load((folder / "exposure.yaml").read_text())
    assert exposure == {"service": {"type": "NodePort", **service}}


@pytest.fixture
def documents(tmp_path) -> str:
    """A cluster's two public documents behind each other, as two runs of kubectl leave them."""
    issuer = {"issuer": "https://kubernetes.default.svc", "jwks_uri": "https://192.0.2.1/openid/v1/jwks"}
    file = tmp_path / "customer-a.json"
    file.write_text(json.dumps(issuer) + json.dumps({"keys": [Issuer(curve=ec.SECP256R1()).jwk]}))
    return str(file)


def test_a_cluster_that_vouches_for_its_agent_gets_nothing_secret(pki, documents, capsys):
    folder = pki("--pki-keys", f"customer-a={documents}", clusters="customer-b")
    said = capsys.readouterr().out
    agent = folder / "agents" / "customer-a"
    assert {each.name for each in agent.iterdir()} == {"agent.yaml", "keys.json"}
    audience = "argotun.example.com/customer-a"
    ca = base64.b64encode((folder / "ca.crt").read_bytes()).decode()
    own = {"mode": "agent", "serverURL": URL, "serverToken": {"audience": audience}}
    assert yaml.safe_load((agent / "agent.yaml").read_text()) == {**own, "tls": {"serverCAData": ca}}
    assert f"mode=agent,serverURL={URL},serverToken.audience={audience}" in said
    assert f"--set tls.serverCAData={ca}" in said
    entry = server_values(folder)["clusters"]["customer-a"]
    assert entry["serviceAccount"]["audience"] == audience
    # Helm takes a bare y for true, as YAML 1.1 has it.
    assert " 'y': " in (folder / "server.yaml").read_text()
    (folder / "clusters.json").write_text(json.dumps([{"id": "customer-a", **entry}]))
    clusters = ClustersFile(str(folder / "clusters.json"))
    clusters.load()
    assert clusters.clusters["customer-a"].account.issuer == "https://kubernetes.default.svc"


def test_a_cluster_that_comes_to_vouch_needs_its_secrets_no_more(pki, documents, capsys):
    folder = pki()
    edited(folder / "server.yaml", lambda values: values["clusters"]["customer-a"].update(rateLimit=9))
    edited(folder / "agents/customer-a/agent.yaml", lambda values: values.update(proxy="http://p:3128"))
    capsys.readouterr()
    pki("--pki-keys", f"customer-a={documents}", clusters="")
    entry = server_values(folder)["clusters"]["customer-a"]
    assert set(entry) == {"rateLimit", "serviceAccount"}
    agent = yaml.safe_load((folder / "agents/customer-a/agent.yaml").read_text())
    assert set(agent) == {"mode", "serverURL", "tls", "proxy", "serverToken"}
    assert set(agent["tls"]) == {"serverCAData"}
    assert not list((folder / "agents/customer-a").glob("t*"))
    assert "On customer-a; nothing in it is secret" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "a file with both documents of the cluster's API"),
        ('{"issuer": "x"}', "a file with both documents of the cluster's API"),
        ('{"issuer": "x"} {"keys": []}', "an RSA key of 2048 bits or more, or an EC key, with a kid"),
        ('{"issuer": ""} {"keys": []}', "text of 1 to 512 characters"),
        ('{"issuer": "x"} nonsense', "a file with both documents of the cluster's API"),
        ('{"issuer": "x"} {"keys": [{"d": "1"}]}', "public keys only"),
        ("[" * 100_000, "a file with both documents of the cluster's API"),
    ],
)
def test_keys_that_are_none_are_refused(pki, tmp_path, capsys, text, sentence):
    file = tmp_path / "keys.json"
    file.write_text(text)
    folder = pki("--pki-keys", f"customer-a={file}", clusters="", code=2)
    said = capsys.readouterr().err
    assert said.startswith(f"argotun: --pki-keys: '{file}' is not valid: expected ")
    assert sentence in said
    assert not (folder / "agents" / "customer-a").exists()


PASSPHRASE = "correct horse battery staple"


@pytest.fixture
def passphrase(tmp_path) -> str:
    file = tmp_path / "passphrase"
    file.write_text(f"{PASSPHRASE}\nnot a part of it\n")
    return str(file)


def test_the_key_of_the_ca_is_encrypted_by_a_passphrase(pki, passphrase, capsys):
    folder = pki("--pki-passphrase-file", passphrase)
    key = folder / "ca.key"
    assert "BEGIN ENCRYPTED PRIVATE KEY" in key.read_text()
    assert key.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in folder.iterdir() if each.name.startswith(".")] == []
    before = (folder / "ca.crt").read_bytes()
    # Others need no passphrase for theirs, and a second run needs the same one.
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(folder / "server.crt", folder / "server.key")
    pki("--pki-passphrase-file", passphrase)
    assert (folder / "ca.crt").read_bytes() == before
    assert PASSPHRASE not in capsys.readouterr().err


def test_an_encrypted_key_without_its_passphrase_is_a_sentence(pki, passphrase, capsys, tmp_path):
    pki("--pki-passphrase-file", passphrase)
    pki(code=1)
    assert "ca.key is encrypted: --pki-passphrase-file is needed" in capsys.readouterr().err
    other = tmp_path / "other"
    other.write_text("another passphrase\n")
    pki("--pki-passphrase-file", str(other), code=1)
    assert f"cannot be read with the passphrase in {other}" in capsys.readouterr().err


def test_a_key_in_clear_is_encrypted_when_a_passphrase_comes(pki, passphrase):
    folder = pki()
    cert = (folder / "ca.crt").read_bytes()
    assert "ENCRYPTED" not in (folder / "ca.key").read_text()
    pki("--pki-passphrase-file", passphrase)
    assert "ENCRYPTED" in (folder / "ca.key").read_text()
    assert (folder / "ca.crt").read_bytes() == cert
    assert not list(folder.glob("**/*clear*"))


@pytest.mark.parametrize("text", ["", "\n", "short\n", "x" * 600])
def test_a_passphrase_that_is_none_is_refused(pki, tmp_path, capsys, text):
    file = tmp_path / "bad"
    file.write_text(text)
    pki("--pki-passphrase-file", str(file), code=2)
    said = capsys.readouterr().err
    assert "--pki-passphrase-file" in said
    assert "12 to 500 characters" in said


def test_callers_may_have_a_ca_that_no_agents_certificate_comes_from(pki):
    folder = pki("--pki-callers-ca")
    again = pki()
    for values in (server_values(folder), server_values(again)):
        callers = base64.b64decode(values["tls"]["internalClientCAData"])
        assert callers == (folder / "callers" / "ca.crt").read_bytes() != (folder / "ca.crt").read_bytes()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=folder / "callers" / "ca.crt")
    server.load_cert_chain(folder / "server.crt", folder / "server.key")
    server.verify_mode = ssl.CERT_REQUIRED
    shake_hands(server, client_context(folder / "ca.crt", folder / "argocd.crt"), "argotun.example.com")
    agent = folder / "agents" / "customer-a" / "tls.crt"
    with pytest.raises(ssl.SSLError):
        shake_hands(server, client_context(folder / "ca.crt", agent), "argotun.example.com")


def test_replicas_have_a_certificate_of_a_ca_that_signs_nothing_else(pki):
    folder = pki("--pki-replicas")
    replicas = folder / "replicas"
    values = server_values(folder)["peer"]
    assert decoded(values) == {
        "certData": (replicas / "tls.crt").read_bytes(),
        "keyData": (replicas / "tls.key").read_bytes(),
        "caData": (replicas / "ca.crt").read_bytes(),
    }
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=replicas / "ca.crt")
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_cert_chain(replicas / "tls.crt", replicas / "tls.key")
    assert shake_hands(server, client_context(replicas / "ca.crt", replicas / "tls.crt"), "argotun-peer")
    for others in ("argocd.crt", "server.crt", "agents/customer-a/tls.crt"):
        with pytest.raises(ssl.SSLError, match=r"unknown ca|verify failed"):
            shake_hands(server, client_context(replicas / "ca.crt", folder / others), "argotun-peer")


def test_every_run_renews_the_replicas_certificate_and_keeps_its_ca(pki, capsys):
    folder = pki("--pki-replicas")
    before = {path.name: path.read_bytes() for path in (folder / "replicas").iterdir()}
    pki()
    after = {path.name: path.read_bytes() for path in (folder / "replicas").iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"tls.crt", "tls.key"}
    assert decoded(server_values(folder)["peer"])["certData"] == after["tls.crt"]
    assert "renewed  replicas/tls.crt" in capsys.readouterr().out


def test_certificates_of_replicas_that_were_removed_are_in_no_values(pki):
    folder = pki("--pki-replicas")

    def change(values):
        values["peer"]["port"] = 9444

    edited(folder / "server.yaml", change)
    shutil.rmtree(folder / "replicas")
    pki()
    assert server_values(folder)["peer"] == {"port": 9444}


@pytest.mark.parametrize("where", [{"url": "redis://redis"}, {"urlKey": "url"}])
def test_it_is_said_where_replicas_would_not_find_each_other(pki, capsys, where):
    folder = pki()
    assert "No values say where several servers" not in capsys.readouterr().out
    pki("--pki-replicas")
    assert "No values say where several servers find each other" in capsys.readouterr().out
    (folder / "replicas.yaml").write_text(yaml.safe_dump({"replicas": 3, "registry": where}))
    pki()
    said = capsys.readouterr().out
    assert f"-f {folder / 'replicas.yaml'}" in said
    assert "No values say where several servers" not in said
