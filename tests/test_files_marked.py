"""Every file may begin with a byte order mark, as editors and shells of Windows write it."""

import codecs
import json
import os
import ssl
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from argotun.agent.credentials import ServerToken, TokenFile
from argotun.agent.policy import read_policy
from argotun.config import PkiConfig, StatusConfig
from argotun.config.network import parse_server_url
from argotun.demo import kubeconfig
from argotun.files import read, readable, unmarked
from argotun.options.load import load
from argotun.options.sources import read as read_options
from argotun.pki.folder import Folder
from argotun.server.clusters import ClustersFile
from argotun.server.keysets import FileKeys
from argotun.server.revoked import RevokedFile
from argotun.status import ask
from argotun.transport.tls import ClientTls, ServerTls
from tests.rig import Authority, Rig
from tests.tokens import Issuer

Marked = Callable[[str, str], str]


def utf16(text: str) -> bytes:
    return codecs.BOM_UTF16_LE + text.encode("utf-16-le")


@pytest.fixture(params=["utf-8", "utf-16-le", "utf-16-be"])
def marked(request: pytest.FixtureRequest, tmp_path: Path) -> Marked:
    """Writes a text into a file of that name as the encoding has it, with its mark; the path."""
    marks = {
        "utf-8": codecs.BOM_UTF8,
        "utf-16-le": codecs.BOM_UTF16_LE,
        "utf-16-be": codecs.BOM_UTF16_BE,
    }

    def write(name: str, text: str) -> str:
        path = tmp_path / name
        path.write_bytes(marks[request.param] + text.encode(request.param))
        return str(path)

    return write


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def test_a_mark_is_no_part_of_the_text() -> None:
    assert unmarked(codecs.BOM_UTF8 + b"a") == b"a"
    assert unmarked(utf16("ä")) == "ä".encode()
    assert unmarked(b"\xff") == b"\xff"
    with pytest.raises(OSError, match="UTF-16") as error:
        unmarked(codecs.BOM_UTF16_LE + b"\x00\xd8")
    assert error.value.strerror


def test_clusters(marked: Marked) -> None:
    text = json.dumps([{"id": "c1", "token": "a-token-of-many-characters"}])
    for source in (marked("clusters", text), f"\ufeff{text}"):
        file = ClustersFile(source)
        file.load()
        assert list(file.clusters) == ["c1"]


def test_callers_and_revoked_certificates(marked: Marked) -> None:
    callers = json.dumps([{"name": "a", "clusters": "*", "tokenSha256": sha256(b"x").hexdigest()}])
    revoked = marked("revoked", "name customer-b\n")
    with Rig(server={"callers": marked("callers", callers)}, mutual=True) as rig:
        assert "a" in rig.server.callers.names
    file = RevokedFile(revoked, lambda: None)
    file.load()
    assert file.revoked("", ["customer-b"])


def test_policy(marked: Marked) -> None:
    policy = read_policy(marked("policy", "presets: [no-secrets]\n"))
    assert not policy.judge(b"GET", b"/api/v1/secrets").allowed


def test_tokens(marked: Marked) -> None:
    assert TokenFile(marked("sa", "secret\n")).token() == "secret"
    assert ServerToken(None, marked("token", "secret\r\n")).current() == "secret"


def test_the_token_of_who_asks_for_a_status(marked: Marked) -> None:
    config = StatusConfig(status_token_file=marked("token", "of-a-caller\n"))
    assert ask._token(config) == {"Authorization": "Bearer of-a-caller"}


def test_options(marked: Marked) -> None:
    loaded = load(read_options(["--config", marked("config", "mode: demo\nlog-level: info\n")], {}), {})
    assert loaded.config.log_level == "info"


def test_certificates_and_keys(marked: Marked, authority: Authority) -> None:
    authority.issue("server", "localhost")
    text = {name: Path(authority.path(name)).read_text() for name in ("ca.pem", "server.pem", "server.key")}
    paths = {name: marked(name, content) for name, content in text.items()}
    ServerTls(paths["server.pem"], paths["server.key"], paths["ca.pem"]).context()
    context = ClientTls(paths["ca.pem"], paths["server.pem"], paths["server.key"]).context()
    assert len(context.get_ca_certs()) == 1


def test_a_library_that_reads_a_file_itself(marked: Marked, authority: Authority) -> None:
    path = marked("ca.pem", Path(authority.path("ca.pem")).read_text())
    with readable(path) as plain:
        assert len(ssl.create_default_context(cafile=plain).get_ca_certs()) == 1
    with readable("/no/such/file") as plain:
        assert plain == "/no/such/file"


def test_key_sets(marked: Marked) -> None:
    assert FileKeys(marked("jwks", json.dumps({"keys": [Issuer().jwk]})), lambda: None).keys


def test_kubeconfig(marked: Marked, tmp_path: Path) -> None:
    text = yaml.safe_dump(
        {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443"}}],
            "users": [{"name": "u", "user": {"tokenFile": marked("token", "secret")}}],
        }
    )
    found = kubeconfig.read(marked("kubeconfig", text), None, tmp_path)
    assert TokenFile(found.agent.sa_token_path).token() == "secret"


def test_the_passphrase_of_pki(marked: Marked, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("a passphrase of words\n")
    options = {
        "pki_folder": str(tmp_path / "pki"),
        "pki_server": parse_server_url("wss://h/connect"),
        "pki_clusters": ("c1",),
    }
    Folder(PkiConfig(**options, pki_passphrase_file=str(plain))).fill()
    Folder(PkiConfig(**options, pki_passphrase_file=marked("marked", plain.read_text()))).fill()
    token = tmp_path / "pki" / "agents" / "c1" / "token"
    os.replace(marked("token", token.read_text()), token)
    Folder(PkiConfig(**options, pki_passphrase_file=str(plain))).fill()


def test_a_file_that_is_not_what_its_mark_says_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(codecs.BOM_UTF16_LE + b"\x00\xd8")
    with pytest.raises(OSError, match="byte order mark"):
        read(str(tmp_path / "file"), 100)
