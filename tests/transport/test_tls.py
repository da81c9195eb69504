"""TLS: who is let in, what a refusal says, and files that change underneath."""

import datetime
import logging
import os
import ssl
import time
from types import SimpleNamespace

import gevent
import pytest
import trustme

from argotun.errors import ConfigError, HandshakeError
from argotun.transport.explain import explain
from argotun.transport.tls import ClientTls, ServerTls, handshake_client, handshake_server

PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


def pem_of(leaf):
    return b"".join(blob.bytes() for blob in leaf.cert_chain_pems)


@pytest.fixture
def shake(pair, close_later):
    """Both ends shake hands and say a word; what each got: a socket or an error."""

    def run(server, client, name="localhost", timeout=5.0):
        near, far = pair()
        made = SimpleNamespace(server=None, client=None)

        def serve():
            try:
                made.server = close_later(handshake_server(far, server, timeout))
                made.server.sendall(b"hello")
            except (HandshakeError, OSError) as error:
                made.server = error

        serving = gevent.spawn(serve)
        try:
            made.client = close_later(handshake_client(near, client, name, timeout))
            made.client.recv(5)
        except (HandshakeError, OSError) as error:
            made.client = error
        serving.join()
        return made

    return run


@pytest.fixture
def mtls(pki):
    return ServerTls(pki.cert, pki.key, pki.ca)


def test_both_sides_agree_on_modern_tls_and_http_1_1(shake, mtls, pki):
    made = shake(mtls.context(), ClientTls(pki.ca, pki.client_cert, pki.client_key).context())
    assert made.client.version() == "TLSv1.3"
    assert made.client.selected_alpn_protocol() == made.server.selected_alpn_protocol() == "http/1.1"
    assert made.client.compression() is None
    assert made.server.getpeercert()["subjectAltName"] == (("DNS", "agent-1"),)


def test_sockets_cooperate_whether_patched_or_not(shake, mtls, pki):
    made = shake(mtls.context(), ClientTls(pki.ca, pki.client_cert, pki.client_key).context())
    from gevent.ssl import SSLSocket

    assert isinstance(made.client, SSLSocket)
    assert isinstance(made.server, SSLSocket)


def test_an_address_is_verified_like_a_name(shake, mtls, pki):
    client = ClientTls(pki.ca, pki.client_cert, pki.client_key).context()
    for name in ("127.0.0.1", "[::1]", "::1", "localhost."):
        assert isinstance(shake(mtls.context(), client, name).client, ssl.SSLSocket), name


def test_tls_1_1_is_refused(shake, pki):
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSVersion"):
        old.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSVersion"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    made = shake(ServerTls(pki.cert, pki.key).context(), old)
    assert "no TLS version or cipher that both sides accept" in str(made.server)


def test_an_agent_without_a_certificate_is_refused(shake, mtls, pki):
    made = shake(mtls.context(), ClientTls(pki.ca).context())
    assert "presented no client certificate" in str(made.server)
    # With TLS 1.3 the client hears of it at its first read.
    assert "requires a client certificate" in explain(made.client)


def test_an_agent_without_a_certificate_hears_it_at_the_upgrade(pair, mtls, pki, close_later):
    from argotun.transport.connect import connect

    near, far = pair()
    close_later(gevent.spawn(refuse, far, mtls.context()))
    tls = close_later(handshake_client(near, ClientTls(pki.ca).context(), "localhost", 5))
    with pytest.raises(HandshakeError, match="requires a client certificate"):
        connect(tls, "wss://localhost/connect", timeout=5)


def test_a_client_certificate_of_another_ca_is_refused(shake, mtls, pki, tmp_path):
    stranger = trustme.CA().issue_cert("agent-1")
    stranger.private_key_and_cert_chain_pem.write_to_path(tmp_path / "stranger.pem")
    made = shake(mtls.context(), ClientTls(pki.ca, str(tmp_path / "stranger.pem")).context())
    assert "comes from a CA that is not among the CA certificates given" in str(made.server)
    assert "does not know the CA of our certificate" in explain(made.client)


def test_a_server_certificate_does_not_do_as_a_client_certificate(shake, pki, tmp_path):
    leaf = issue_for(pki.authority, "serverAuth", tmp_path)
    made = shake(ServerTls(pki.cert, pki.key, pki.ca).context(), ClientTls(pki.ca, leaf).context())
    assert "not for this use" in str(made.server)


def test_an_expired_client_certificate_is_refused(shake, mtls, pki, tmp_path):
    old = pki.authority.issue_cert("agent-1", not_before=PAST, not_after=PAST + datetime.timedelta(days=1))
    old.private_key_and_cert_chain_pem.write_to_path(tmp_path / "old.pem")
    made = shake(mtls.context(), ClientTls(pki.ca, str(tmp_path / "old.pem")).context())
    assert "certificate has expired" in str(made.server)
    assert "says that our certificate has expired" in explain(made.client)


def test_an_expired_server_certificate_is_refused(shake, pki, tmp_path):
    old = pki.authority.issue_cert("localhost", not_before=PAST, not_after=PAST + datetime.timedelta(days=1))
    old.private_key_and_cert_chain_pem.write_to_path(tmp_path / "old.pem")
    server = ServerTls(str(tmp_path / "old.pem"), str(tmp_path / "old.pem"))
    assert "the other side's certificate has expired" in str(
        shake(server.context(), ClientTls(pki.ca).context()).client
    )


def test_a_certificate_for_another_name_is_refused(shake, pki):
    made = shake(ServerTls(pki.cert, pki.key).context(), ClientTls(pki.ca).context(), "argotun.example")
    assert isinstance(made.client, HandshakeError)
    assert "mismatch" in str(made.client).lower()
    assert "argotun.example" in str(made.client)


def test_a_name_in_the_subject_alone_does_not_count(shake, pki, tmp_path):
    leaf = issue_for(pki.authority, "serverAuth", tmp_path, common_name="localhost", names=())
    made = shake(ServerTls(leaf, leaf).context(), ClientTls(pki.ca).context())
    assert isinstance(made.client, HandshakeError)


def test_a_server_of_an_unknown_ca_is_refused(shake, pki):
    made = shake(ServerTls(pki.cert, pki.key).context(), ClientTls().context())
    assert "comes from a CA that is not among the CA certificates given" in str(made.client)


def test_insecure_takes_any_certificate_for_any_name(shake, pki):
    for name in ("argotun.example", None):
        made = shake(ServerTls(pki.cert, pki.key).context(), ClientTls(insecure=True).context(), name)
        assert isinstance(made.client, ssl.SSLSocket)


def test_an_intermediate_ca_may_be_the_anchor(shake, pki, tmp_path):
    child = pki.authority.create_child_ca()
    child.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "leaf.pem")
    child.cert_pem.write_to_path(tmp_path / "child.crt")
    server = ServerTls(str(tmp_path / "leaf.pem"), str(tmp_path / "leaf.pem"))
    assert isinstance(
        shake(server.context(), ClientTls(str(tmp_path / "child.crt")).context()).client, ssl.SSLSocket
    )


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_there_are_no_session_tickets(shake, pki, version):
    client = ClientTls(pki.ca).context()
    client.maximum_version = version
    session = shake(ServerTls(pki.cert, pki.key).context(), client).client.session
    assert session is None or not session.has_ticket


def test_renegotiation_is_off(mtls):
    assert mtls.context().options & ssl.OP_NO_RENEGOTIATION


def test_plain_http_spoken_to_a_tls_port_is_told(pair, pki):
    near, far = pair()
    near.sendall(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(HandshakeError, match="plain HTTP was spoken to a TLS port"):
        handshake_server(far, ServerTls(pki.cert, pki.key).context(), 5)


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH\r\n"])
def test_a_server_that_speaks_no_tls_is_told(pair, pki, said):
    near, far = pair()
    far.sendall(said)
    with pytest.raises(HandshakeError, match="does not speak TLS on this port"):
        handshake_client(near, ClientTls(pki.ca).context(), "localhost", 5)


def test_a_peer_that_leaves_in_the_handshake_is_told(pair, pki):
    near, far = pair()
    far.close()
    with pytest.raises(HandshakeError, match=r"closed the connection|reset"):
        handshake_client(near, ClientTls(pki.ca).context(), "localhost", 5)


def test_a_silent_peer_is_given_up(pair, pki):
    near, far = pair()
    with pytest.raises(HandshakeError, match="in time"):
        handshake_server(far, ServerTls(pki.cert, pki.key).context(), 0.1)
    assert far.fileno() == -1
    assert near.recv(1) == b""


def test_a_peer_that_dribbles_is_given_up(pair, pki, close_later):
    near, far = pair()

    def dribble():
        for byte in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500):
            near.sendall(bytes([byte]))
            gevent.sleep(0.02)

    close_later(gevent.spawn(dribble))
    with pytest.raises(HandshakeError, match="in time"):
        handshake_server(far, ServerTls(pki.cert, pki.key).context(), 0.2)


def test_a_timeout_of_the_caller_is_not_taken_for_ours(pair, pki):
    _, far = pair()
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.05):
        handshake_server(far, ServerTls(pki.cert, pki.key).context(), 5)
    assert far.fileno() == -1


@pytest.mark.parametrize("name", ["", ".", ".example", "x" * 300, "a\0b"])
def test_an_impossible_name_is_refused(pair, pki, name):
    near, _ = pair()
    with pytest.raises(HandshakeError):
        handshake_client(near, ClientTls(pki.ca).context(), name, 0.2)


# Files


def test_expiry_names_what_ends_when(pki, tmp_path):
    soon = datetime.datetime(2031, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)
    write(tmp_path / "leaf.pem", pki.authority.issue_cert("x", not_after=soon))
    tls = ClientTls(pki.ca, str(tmp_path / "leaf.pem"))
    assert tls.expiry()["certificate"] == soon.timestamp()
    assert tls.expiry()["ca"] > soon.timestamp()
    assert ServerTls(pki.cert, pki.key).expiry().keys() == {"certificate"}
    assert ClientTls().expiry() == {}


def test_a_swapped_volume_is_read_again(volume, shake):
    old, new = trustme.CA(), trustme.CA()
    publish(volume, old)
    tls = ServerTls(volume.path("crt"), volume.path("key"))
    before = tls.context()
    assert tls.context() is before
    publish(volume, new)
    assert tls.context() is not before
    assert isinstance(shake(tls.context(), trusting(new)).client, ssl.SSLSocket)
    assert isinstance(shake(tls.context(), trusting(old)).client, HandshakeError)
    # Connections that were accepted with the old context keep it.
    assert isinstance(shake(before, trusting(old)).client, ssl.SSLSocket)


def test_a_session_of_a_removed_client_ca_is_not_resumed(volume, pair, pki):
    client = ClientTls(pki.ca, pki.client_cert, pki.client_key).context()
    client.maximum_version = ssl.TLSVersion.TLSv1_2  # with 1.3 there is nothing to resume

    def visit(session):
        """Connect and leave in order, as only such a session can be resumed: it, and whether it was."""
        near, far = pair()

        def serve():
            with handshake_server(far, tls.context(), 5) as sock:
                sock.unwrap()

        serving = gevent.spawn(serve)
        with client.wrap_socket(near, server_hostname="localhost", session=session) as sock:
            found = sock.session, sock.session_reused
            sock.unwrap()
        serving.get()
        return found

    volume.publish(ca=pki.authority.cert_pem.bytes())
    tls = ServerTls(pki.cert, pki.key, volume.path("ca"))
    session, _ = visit(None)
    _, reused = visit(session)
    assert reused, "the library does not resume at all: this test shows nothing"
    volume.publish(ca=trustme.CA().cert_pem.bytes())
    near, far = pair()
    refusing = gevent.spawn(refuse, far, tls.context())
    with pytest.raises(OSError, match="unknown ca"):
        client.wrap_socket(near, server_hostname="localhost", session=session)
    refusing.get()


def test_old_and_new_client_ca_hold_side_by_side(shake, pki, tmp_path):
    other = trustme.CA()
    bundle = tmp_path / "bundle.crt"
    bundle.write_bytes(
        b"# rotation \xc3\xa9\n" + pki.authority.cert_pem.bytes() + b"\n# new\n" + other.cert_pem.bytes()
    )
    tls = ServerTls(pki.cert, pki.key, str(bundle))
    write(tmp_path / "other.pem", other.issue_cert("agent-2"))
    for cert, key in ((pki.client_cert, pki.client_key), (str(tmp_path / "other.pem"), None)):
        assert isinstance(shake(tls.context(), ClientTls(pki.ca, cert, key).context()).server, ssl.SSLSocket)


BROKEN = {
    "empty certificate": {"crt": b""},
    "half a certificate": {"crt": b"-----BEGIN CERTIFICATE-----\nMIIB"},
    "no certificate in it": {"crt": b"hello"},
    "certificate of junk": {"crt": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
    "empty key": {"key": b""},
    "half a key": {"key": b"-----BEGIN PRIVATE KEY-----\nMIIE"},
    "key of another certificate": {"key": trustme.CA().issue_cert("x").private_key_pem.bytes()},
    "empty CA": {"ca": b""},
    "CA of junk": {"ca": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
    "CA cut off": {"ca": trustme.CA().cert_pem.bytes() * 2 + b"-----BEGIN CERTIFICATE-----\nMIIB"},
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_leaves_the_last_good_ones_in_use(volume, shake, caplog, broken):
    ca = trustme.CA()
    files = publish(volume, ca)
    tls = ServerTls(volume.path("crt"), volume.path("key"), volume.path("ca"))
    good = tls.context()
    expiry = tls.expiry()
    volume.publish(**{**files, **broken})
    for _ in range(3):
        assert tls.context() is good
    assert tls.errors == 1
    assert tls.expiry() == expiry
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert volume.path(next(iter(broken))) in line
    assert "stay in use" in line
    volume.publish(**files)
    assert tls.context() is not good
    assert tls.errors == 1


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_at_the_start_names_option_and_file(volume, broken):
    volume.publish(**{**publish(volume, trustme.CA()), **broken})
    with pytest.raises(ConfigError) as caught:
        ServerTls(volume.path("crt"), volume.path("key"), volume.path("ca"))
    name = next(iter(broken))
    assert caught.value.option == {"crt": "--tls-cert", "key": "--tls-key", "ca": "--tls-client-ca"}[name]
    assert volume.path(name) in str(caught.value)


@pytest.mark.parametrize("missing", ["cert", "key", "ca"])
def test_a_missing_file_names_itself(pki, missing, tmp_path):
    paths = {"cert": pki.cert, "key": pki.key, "ca": pki.ca, missing: str(tmp_path / "absent")}
    with pytest.raises(ConfigError, match="no such file"):
        ServerTls(paths["cert"], paths["key"], paths["ca"])


def test_files_that_vanish_and_come_back_are_noticed(volume, tmp_path):
    files = publish(volume, trustme.CA())
    tls = ServerTls(volume.path("crt"), volume.path("key"))
    good = tls.context()
    os.rename(tmp_path / "..data", tmp_path / "gone")
    assert tls.context() is good
    assert tls.errors == 1
    volume.publish(**files)
    assert tls.context() is not good


def test_a_file_rewritten_in_place_is_noticed(pki, tmp_path):
    path = tmp_path / "both.pem"
    write(path, pki.authority.issue_cert("a"))
    tls = ClientTls(pki.ca, str(path))
    before = tls.context()
    time.sleep(0.01)  # the clock of file systems ticks every few milliseconds
    write(path, pki.authority.issue_cert("b"))
    assert tls.context() is not before


def test_a_key_with_a_password_does_not_ask_at_the_terminal(pki, tmp_path):
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(pki.server.private_key_pem.bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"x"),
    )
    (tmp_path / "locked.key").write_bytes(locked)
    with pytest.raises(ConfigError, match="password"):
        ServerTls(pki.cert, str(tmp_path / "locked.key"))


def test_the_options_of_another_pair_of_files_can_be_named(tmp_path):
    with pytest.raises(ConfigError) as caught:
        ClientTls(str(tmp_path / "absent"), options=("--ca-cert", "", ""))
    assert caught.value.option == "--ca-cert"


def refuse(sock, context):
    """Be the server of a handshake that must fail."""
    with pytest.raises(HandshakeError):
        handshake_server(sock, context, 5)


def write(path, leaf):
    path.write_bytes(leaf.private_key_pem.bytes() + pem_of(leaf))


def publish(volume, ca):
    """Publish a CA, a certificate of it for localhost, and its key."""
    leaf = ca.issue_cert("localhost")
    files = {"ca": ca.cert_pem.bytes(), "crt": pem_of(leaf), "key": leaf.private_key_pem.bytes()}
    volume.publish(**files)
    return files


def trusting(ca):
    context = ssl.create_default_context()
    ca.configure_trust(context)
    return context


def issue_for(authority, usage, folder, common_name="leaf", names=("localhost",)):
    """A certificate for one extended key usage, in one file with its key; the file's path."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    issuer_key = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    oid = {"serverAuth": ExtendedKeyUsageOID.SERVER_AUTH, "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH}[
        usage
    ]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.ExtendedKeyUsage([oid]), critical=False)
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False
        )
    cert = builder.sign(issuer_key, hashes.SHA256())
    path = folder / f"{usage}.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + cert.public_bytes(serialization.Encoding.PEM)
    )
    return str(path)
