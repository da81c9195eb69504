"""When a chain ends: real certificates, of which some have ended that nobody needs, others that all do."""

import datetime
import logging
import ssl
from time import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from argotun.errors import HandshakeError
from argotun.transport.certificates import chain_end, parse
from argotun.transport.tls import ClientTls, ServerTls

DAY = 86400


class Party:
    """A name and its key, which others sign and which signs others; times are days from now."""

    def __init__(self, name, ca=True):
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.ca = ca

    def signed_by(self, issuer, ends, begins=-30):
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(issuer.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(day(begins))
            .not_valid_after(day(ends))
            .add_extension(x509.BasicConstraints(ca=self.ca, path_length=None), critical=True)
        )
        if not self.ca:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False
            )
        return builder.sign(issuer.key, hashes.SHA256())

    def pem(self):
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def day(number):
    return datetime.datetime.fromtimestamp(int(NOW + number * DAY), datetime.UTC)


NOW = time()
OLD, NEW, MIDDLE, LEAF = Party("old root"), Party("new root"), Party("middle"), Party("leaf", ca=False)
RENEWED = Party("middle")
"""As MIDDLE by name, with a key of its own."""

LEAF_END = 60


def pem(*certificates):
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)


def read(*certificates):
    return [parse(each.public_bytes(serialization.Encoding.DER)) for each in certificates]


def end_of(*chain, trusted=()):
    """In days from now."""
    return round((chain_end(read(*chain), read(*trusted), NOW) - NOW) / DAY)


LEAF_OF_MIDDLE = LEAF.signed_by(MIDDLE, LEAF_END)
LEAF_OF_NEW = LEAF.signed_by(NEW, LEAF_END)
MIDDLE_OF_NEW = MIDDLE.signed_by(NEW, 300)
ENDED_CROSS = NEW.signed_by(OLD, -1)
ENDED_MIDDLE = MIDDLE.signed_by(NEW, -1)
NEW_ROOT = NEW.signed_by(NEW, 3000)
ENDED_ROOT = OLD.signed_by(OLD, -1)

NOT_NEEDED = {
    "a root that another one had signed": (LEAF_OF_MIDDLE, MIDDLE_OF_NEW, ENDED_CROSS),
    "the same with its own root": (LEAF_OF_MIDDLE, MIDDLE_OF_NEW, NEW_ROOT, ENDED_CROSS, ENDED_ROOT),
    "the CA that issued it, which has another one": (LEAF_OF_NEW, ENDED_CROSS, NEW_ROOT),
    "the CA that issued it, renewed for its key": (LEAF_OF_MIDDLE, ENDED_MIDDLE, MIDDLE_OF_NEW),
    "the CA that issued it, ended before": (LEAF.signed_by(NEW, LEAF_END, begins=0), ENDED_CROSS),
    "a root of somebody else": (LEAF_OF_MIDDLE, MIDDLE_OF_NEW, ENDED_ROOT),
}


@pytest.mark.parametrize("chain", NOT_NEEDED.values(), ids=NOT_NEEDED)
def test_what_has_ended_and_is_not_needed_does_not_count(chain):
    assert end_of(*chain) == LEAF_END


def test_a_root_that_is_known_here_needs_no_other_one_to_sign_it():
    assert end_of(LEAF_OF_NEW, ENDED_CROSS) == -1
    assert end_of(LEAF_OF_NEW, ENDED_CROSS, trusted=[NEW_ROOT]) == LEAF_END
    assert end_of(LEAF_OF_NEW, ENDED_CROSS, trusted=[NEW.signed_by(NEW, -2), OLD.signed_by(OLD, 9)]) == -1


def test_a_ca_that_is_needed_and_has_ended_counts():
    assert end_of(LEAF_OF_MIDDLE, ENDED_MIDDLE) == -1
    assert end_of(LEAF_OF_MIDDLE, ENDED_MIDDLE, NEW_ROOT) == -1


def test_a_ca_that_is_needed_and_ends_first_counts_before_it_has_ended():
    assert end_of(LEAF_OF_MIDDLE, MIDDLE.signed_by(NEW, 7)) == 7
    assert end_of(LEAF_OF_MIDDLE, MIDDLE_OF_NEW, NEW.signed_by(OLD, 7)) == 7
    assert end_of(LEAF_OF_MIDDLE, MIDDLE.signed_by(NEW, 7), MIDDLE_OF_NEW) == LEAF_END


def test_a_ca_of_the_same_name_and_another_key_is_no_other_one_for_it():
    assert end_of(LEAF_OF_MIDDLE, ENDED_MIDDLE, RENEWED.signed_by(NEW, 300)) == -1


def test_the_certificate_itself_always_counts():
    ended = LEAF.signed_by(MIDDLE, -1)
    assert end_of(ended) == -1
    assert end_of(ended, MIDDLE_OF_NEW, trusted=[NEW_ROOT, MIDDLE_OF_NEW]) == -1
    alone = LEAF.signed_by(LEAF, 5)
    assert end_of(alone) == 5


def test_cas_that_sign_each_other_have_an_end():
    assert end_of(LEAF_OF_NEW, NEW.signed_by(OLD, 40), OLD.signed_by(NEW, 50)) == 40


@pytest.fixture
def made(tmp_path):
    """Paths of files with these contents."""

    def make(**contents):
        for name, content in contents.items():
            (tmp_path / name).write_bytes(content)
        return [str(tmp_path / name) for name in contents]

    return make


def test_a_chain_with_an_ended_root_is_verified_and_no_alert(made, shake, caplog):
    cert, key, ca = made(
        cert=pem(LEAF_OF_MIDDLE, MIDDLE_OF_NEW, ENDED_CROSS),
        key=LEAF.pem(),
        ca=pem(ENDED_ROOT, NEW_ROOT),
    )
    server, client = ServerTls(cert, key, ca), ClientTls(ca, cert, key)
    met = shake(server.context(), client.context())
    assert isinstance(met.server, ssl.SSLSocket)
    assert isinstance(met.client, ssl.SSLSocket)
    ends = {"certificate": float(int(NOW + LEAF_END * DAY)), "ca": float(int(NOW + 3000 * DAY))}
    assert server.expiry() == client.expiry() == ends
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_chain_whose_ca_has_ended_is_refused_and_an_alert(made, shake):
    cert, key, ca = made(cert=pem(LEAF_OF_MIDDLE, ENDED_MIDDLE), key=LEAF.pem(), ca=pem(NEW_ROOT))
    server = ServerTls(cert, key)
    met = shake(server.context(), ClientTls(ca).context())
    assert isinstance(met.client, HandshakeError)
    assert "has expired" in str(met.client)
    assert server.expiry()["certificate"] < NOW


def test_an_ended_root_beside_its_renewal_of_the_same_key_is_no_matter(made, shake):
    cert, key, ca = made(
        cert=pem(LEAF_OF_NEW), key=LEAF.pem(), ca=pem(NEW.signed_by(NEW, -1, begins=-60), NEW_ROOT)
    )
    client = ClientTls(ca)
    met = shake(ServerTls(cert, key).context(), client.context())
    assert isinstance(met.client, ssl.SSLSocket)
    assert client.expiry()["ca"] > NOW
