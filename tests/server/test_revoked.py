"""Certificates that no longer count: the file, and both ports, for new and for old connections."""

import os
import ssl
import subprocess
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from gevent import socket

from argotun.errors import ConfigError
from argotun.server import app
from argotun.server.revoked import RevokedFile, parse
from tests.raw_websocket import Refused, dial
from tests.rig import Peer, Rig, until
from tests.v2_peers import SUBPROTOCOL

HEX = "3f" * 32
COLONS = ":".join(["3F"] * 32)


# The file


@pytest.mark.parametrize("line", [f"sha256 {HEX}", f"sha256 {COLONS}", f"sha256 Fingerprint={COLONS}"])
def test_a_fingerprint_is_read_in_each_way_that_it_is_printed(line: str) -> None:
    assert parse(f"# lost\n\n  {line}  \r\n".encode()).fingerprints == {HEX}


def test_what_openssl_prints_is_read_as_it_is(tmp_path: Path) -> None:
    with Rig(agent=None) as rig:
        command = [
            "openssl",
            "x509",
            "-noout",
            "-fingerprint",
            "-sha256",
            "-in",
            rig.authority.path("agent.pem"),
        ]
        printed = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
        assert parse(printed).fingerprints == {fingerprint(rig, "agent")}


def test_a_name_is_the_rest_of_its_line() -> None:
    assert parse(b"name Customer-A\nname two words\n").names == {"customer-a", "two words"}


@pytest.mark.parametrize(
    "text",
    [
        HEX,
        f"sha256 {HEX[:-1]}",
        f"sha256 {HEX}0",
        f"sha256 {COLONS[:-3]}",
        f"sha1 {HEX}",
        f"sha256 {HEX} # why",
        "sha256",
        "name",
        "name  ",
        "customer-a",
        "names a",
        b"name \xff",
    ],
)
def test_a_line_of_any_other_form_makes_the_file_unusable(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        parse(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize("text", [None, "what"])
def test_a_first_file_that_cannot_be_used_is_an_error(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "revoked"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match="--revoked"):
        RevokedFile(str(path), lambda: None).load()


def test_without_the_file_nothing_is_revoked() -> None:
    file = RevokedFile(None, lambda: None)
    file.load()
    assert not file.refresh()
    assert not file.revoked(HEX, ["a"])


def test_a_version_that_cannot_be_used_keeps_the_last_good_one(tmp_path: Path) -> None:
    errors: list[int] = []
    path = tmp_path / "revoked"
    path.write_text("name customer-a")
    file = RevokedFile(str(path), lambda: errors.append(1))
    file.load()
    path.write_text("name customer-b\noops")
    assert not file.refresh()
    assert not file.refresh()
    assert errors == [1]
    assert file.revoked("", ["customer-a"])
    path.write_text("name customer-b")
    assert file.refresh()
    assert not file.revoked("", ["customer-a"])


@pytest.mark.parametrize("name", ["customer-a", "CUSTOMER-A"])
def test_names_are_looked_for_whatever_their_case(tmp_path: Path, name: str) -> None:
    path = tmp_path / "revoked"
    path.write_text("name Customer-A")
    file = RevokedFile(str(path), lambda: None)
    file.load()
    assert file.revoked(HEX, ["other", name])
    assert not file.revoked(HEX, ["customer"])


# At the ports


Revoke = Callable[[str], None]


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(app, "REFRESH", 0.02)
    path = tmp_path / "revoked"
    path.write_text("# nothing yet\n")
    return path


@pytest.fixture
def rig(listed: Path) -> Iterator[Rig]:
    """Both ports want certificates."""
    with Rig(server={"revoked": str(listed), "internal_plain": False}) as rig:
        yield rig


@pytest.fixture
def revoke(listed: Path) -> Revoke:
    def write(line: str) -> None:
        fresh = listed.with_name("fresh")
        fresh.write_text(line)
        os.replace(fresh, listed)

    return write


def fingerprint(rig: Rig, name: str) -> str:
    return sha256(ssl.PEM_cert_to_DER_cert(Path(rig.authority.path(f"{name}.pem")).read_text())).hexdigest()


def context(rig: Rig) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=rig.authority.path("ca.pem"))
    made.load_cert_chain(rig.authority.path("agent.pem"), rig.authority.path("agent.key"))
    return made


def caller(rig: Rig) -> Peer:
    sock = socket.create_connection(rig.server.internal_address)
    made = ssl.create_default_context(cafile=rig.authority.path("ca.pem"))
    made.load_cert_chain(rig.authority.path("argocd.pem"), rig.authority.path("argocd.key"))
    return rig.keep(Peer(made.wrap_socket(sock, server_hostname="localhost")))


@pytest.mark.parametrize("by", ["fingerprint", "name", "second name"])
def test_the_tunnel_of_a_revoked_certificate_ends_and_none_is_made(rig: Rig, revoke: Revoke, by: str) -> None:
    session = rig.session
    revoke({"fingerprint": f"sha256 {fingerprint(rig, 'agent')}", "name": "name agent.example",
            "second name": "name c3"}[by])  # fmt: skip
    until(session.tunnel.ended.is_set, "the tunnel's end")
    fields = SUBPROTOCOL + b"Authorization: Bearer %b\r\n" % rig.TOKEN.encode()
    with pytest.raises(Refused) as caught:
        dial(rig.server.public_address, fields, context=context(rig))
    assert (caught.value.status, caught.value.body) == (403, b"the certificate is revoked\n")
    assert rig.server.metrics._auth_failures["revoked"] >= 1


def test_a_tunnel_of_another_certificate_goes_on(rig: Rig, revoke: Revoke) -> None:
    session = rig.session
    revoke(f"sha256 {HEX}\nname customer-b")
    until(lambda: rig.server._revoked.revoked(HEX, ()), "the file")
    assert not session.tunnel.ended.is_set()
    assert rig.get(client=caller(rig)).status == 200


def test_a_certificate_that_is_no_longer_listed_is_let_in_again(rig: Rig, revoke: Revoke) -> None:
    session = rig.session
    revoke("name c1")
    until(session.tunnel.ended.is_set, "the tunnel's end")
    revoke("")
    until(lambda: rig.server.registry.of("c1"), "the agent's return")


def test_the_connections_of_a_revoked_caller_end_and_none_is_served(rig: Rig, revoke: Revoke) -> None:
    idle, watching = caller(rig), caller(rig)
    assert rig.get(client=idle).status == 200
    rig.api.script = lambda peer: (peer.head(), peer.send(b"HTTP/1.1 200 OK\r\n\r\nbegun"), peer.rest())  # type: ignore[assignment,return-value]
    watching.send(b"GET /tunnel/c1/api/v1/pods?watch=1 HTTP/1.1\r\nHost: a\r\n\r\n")
    watching.until(b"begun")
    revoke("name argocd")
    for each in (idle, watching):
        assert each.ended() in ("closed", "reset")
    until(lambda: not rig.server.clients.connections, "the end of what it asked for")
    late = caller(rig)
    late.send(b"GET /status HTTP/1.1\r\nHost: a\r\n\r\n")
    try:
        assert late.rest() == b""
    except OSError:
        pass
    assert not rig.server.clients._certificates
