"""TLS contexts follow their files: swapped volumes, rotated CAs, and files that cannot be used."""

import datetime
import logging
import os
import ssl
import time

import gevent
import pytest
import trustme

from argotun import files
from argotun.errors import ConfigError, HandshakeError
from argotun.transport import tls as module
from argotun.transport.certificates import Certificate, remark
from argotun.transport.tls import ClientTls, ServerTls, handshake_server


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


def test_a_volume_swapped_in_the_middle_of_loading_is_loaded_whole(volume, shake, monkeypatch, caplog):
    """Certificate of one generation and key of another: nobody made a mistake, so none is reported."""
    ca = trustme.CA()
    publish(volume, ca)
    tls = ServerTls(volume.path("crt"), volume.path("key"))
    swaps = iter([True, False])
    load = ssl.SSLContext.load_cert_chain

    def load_late(context, cert, key, **options):
        if next(swaps, False):
            # The certificate was read already, and the key comes with the next one.
            with open(cert, "rb") as file:
                old = file.read()
            files = publish(volume, ca)
            volume.publish(**{**files, "crt": old})
            try:
                load(context, cert, key, **options)
            finally:
                volume.publish(**files)
        else:
            load(context, cert, key, **options)

    monkeypatch.setattr(module.SSLContext, "load_cert_chain", load_late)
    publish(volume, ca)
    assert isinstance(shake(tls.context(), trusting(ca)).client, ssl.SSLSocket)
    assert not list(swaps)
    assert tls.errors == 0
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_swap_to_the_same_content_is_not_a_change(volume, caplog):
    caplog.set_level(logging.INFO)
    files = publish(volume, trustme.CA())
    tls = ServerTls(volume.path("crt"), volume.path("key"), volume.path("ca"))
    before = tls.context()
    volume.publish(**files)
    assert tls.context() is before
    volume.publish(**{**files, "key": b""})
    tls.context()
    volume.publish(**{**files, "key": b""})
    tls.context()
    assert tls.errors == 1
    assert len(caplog.records) == 1


def test_a_file_with_its_old_time_and_size_is_read_again(tmp_path, shake):
    """As `cp --preserve` or rsync leave it, or two writes within one tick of the kernel's clock."""
    ca = trustme.CA()
    path = tmp_path / "both.pem"
    one, two = made_to_one_length(ca)
    path.write_bytes(one)
    then = time.time_ns() - 10**10
    os.utime(path, ns=(then, then))
    gevent.sleep(0.06)  # the file is no longer young: from here on its stat must tell
    tls = ServerTls(str(path), str(path))
    before = tls.context()
    assert tls.context() is before
    path.write_bytes(two)
    os.utime(path, ns=(then, then))
    assert tls.context() is not before
    assert isinstance(shake(tls.context(), trusting(ca)).client, ssl.SSLSocket)


def test_two_writes_within_one_tick_are_both_seen(tmp_path, monkeypatch):
    path = tmp_path / "both.pem"
    one, two = made_to_one_length(trustme.CA())
    path.write_bytes(one)
    now = time.time_ns()
    monkeypatch.setattr(module, "fingerprint", lambda path: (1, 2, 3, now, now))
    monkeypatch.setattr(files, "SETTLED", 10**12)
    tls = ServerTls(str(path), str(path))
    before = tls.context()
    path.write_bytes(two)
    assert tls.context() is not before


def test_an_unchanged_file_is_looked_at_and_not_read(tmp_path, monkeypatch):
    path = tmp_path / "both.pem"
    write(path, trustme.CA().issue_cert("localhost"))
    tls = ServerTls(str(path), str(path))
    gevent.sleep(0.06)
    tls.context()
    monkeypatch.setattr(module, "read", lambda *_: pytest.fail("read again"))
    assert tls.context() is tls.context()


def test_a_certificate_that_has_ended_is_loaded_without_a_word(volume, caplog):
    """Used all the same: the clock may be what is wrong, and the metric says it too."""
    then = datetime.datetime(2020, 2, 3, 4, 5, tzinfo=datetime.UTC)
    ca = trustme.CA()
    files = publish(volume, ca)
    tls = ServerTls(volume.path("crt"), volume.path("key"), volume.path("ca"))
    old = ca.issue_cert("localhost", not_before=then - datetime.timedelta(days=1), not_after=then)
    volume.publish(**{**files, "crt": pem_of(old), "key": old.private_key_pem.bytes()})
    for _ in range(3):
        assert tls.expiry()["certificate"] == then.timestamp()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", f"{volume.path('crt')}: the certificate in it ended on 2020-02-03 04:05 UTC")
    ]


DAY = 86400.0


@pytest.mark.parametrize(
    ("begins", "ends", "said"),
    [
        (-300 * DAY, 3 * DAY, "ends on 1971-01-04 00:00 UTC"),
        (-300 * DAY, 15 * DAY, ""),
        (-0.1 * DAY, 0.1 * DAY, ""),
        (-0.9 * DAY, 0.1 * DAY, "ends on 1971-01-01 02:24 UTC"),
        (DAY, 300 * DAY, "begins on 1971-01-02 00:00 UTC: until then nobody takes it, if the clock is right"),
        (-300 * DAY, -DAY, "ended on 1970-12-31 00:00 UTC"),
    ],
    ids=["in days", "in weeks", "of a day, new", "of a day, old", "tomorrow", "yesterday"],
)
def test_a_certificate_is_spoken_of_near_its_end(begins, ends, said):
    now = 365 * DAY
    assert remark(Certificate(now + begins, now + ends, b"", b"", b""), now + ends, now) == said


def test_a_certificate_that_ends_in_days_is_loaded_with_a_warning(pki, tmp_path, caplog):
    end = datetime.datetime.now(datetime.UTC).replace(microsecond=0) + datetime.timedelta(days=3)
    write(tmp_path / "leaf.pem", pki.authority.issue_cert("x", not_after=end))
    ClientTls(pki.ca, str(tmp_path / "leaf.pem"))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", f"{tmp_path / 'leaf.pem'}: the certificate in it ends on {end:%Y-%m-%d %H:%M} UTC")
    ]


def test_a_damaged_certificate_is_not_taken_for_a_damaged_key(pki, tmp_path):
    (der,) = map(ssl.PEM_cert_to_DER_cert, [pki.server.cert_chain_pems[0].bytes().decode()])
    damaged = bytearray(der)
    damaged[10] ^= 0xFF
    (tmp_path / "bad.pem").write_text(ssl.DER_cert_to_PEM_cert(bytes(damaged)))
    with pytest.raises(ConfigError, match=r"--tls-cert: .*bad\.pem.*malformed"):
        ServerTls(str(tmp_path / "bad.pem"), pki.key)


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


UNREADABLE = {
    "a pipe": "it is not a regular file",
    "a device": "it is not a regular file",
    "too large": "it is larger than",
}


def put_unreadable(path, kind):
    """Something in place of a PEM file that no process can read to its end."""
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    else:
        with open(path, "wb") as file:
            file.truncate(module.LARGEST_FILE + 1)


@pytest.mark.parametrize("kind", UNREADABLE)
@pytest.mark.parametrize("name", ["cert", "key", "ca"])
def test_what_has_no_end_is_refused_without_waiting_for_it(pki, tmp_path, name, kind):
    place = tmp_path / "place"
    put_unreadable(place, kind)
    paths = {"cert": pki.cert, "key": pki.key, "ca": pki.ca, name: str(place)}
    with pytest.raises(ConfigError, match=UNREADABLE[kind]) as caught:
        ServerTls(paths["cert"], paths["key"], paths["ca"])
    assert str(place) in str(caught.value)


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_has_no_end_leaves_the_certificate_in_use(pki, tmp_path, kind, caplog):
    caplog.set_level(logging.INFO)
    place = tmp_path / "place"
    write(place, pki.authority.issue_cert("a"))
    tls = ClientTls(pki.ca, str(place))
    good = tls.context()
    place.unlink()
    put_unreadable(place, kind)
    for _ in range(2):
        assert tls.context() is good
    assert tls.errors == 1
    assert UNREADABLE[kind] in caplog.text
    place.unlink()
    write(place, pki.authority.issue_cert("b"))
    assert tls.context() is not good
    assert "the certificates can be used again" in caplog.messages


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


def pem_of(leaf):
    return b"".join(blob.bytes() for blob in leaf.cert_chain_pems)


def write(path, leaf):
    path.write_bytes(leaf.private_key_pem.bytes() + pem_of(leaf))


def made_to_one_length(ca):
    """Two certificates with their keys, each in one file's bytes, of the same number of bytes."""
    made = {}
    while True:
        leaf = ca.issue_cert("localhost")
        both = leaf.private_key_pem.bytes() + pem_of(leaf)
        if len(both) in made:
            return made[len(both)], both
        made[len(both)] = both


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
