"""TLS: who is let in, and what a refusal says."""

import datetime
import ssl

import gevent
import pytest
import trustme

from argotun.errors import HandshakeError
from argotun.transport.explain import explain
from argotun.transport.tls import ClientTls, ServerTls, handshake_client, handshake_server

PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


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
        connect(tls, "localhost", "/connect", [], (), 5)


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


def test_a_cut_connection_never_passes_for_one_that_ended_gracefully(mtls, pki):
    for each in (mtls, ClientTls(pki.ca)):
        assert not each.context().options & ssl.OP_IGNORE_UNEXPECTED_EOF


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


def refuse(sock, context):
    """Be the server of a handshake that must fail."""
    with pytest.raises(HandshakeError):
        handshake_server(sock, context, 5)


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
