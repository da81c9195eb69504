"""PEM bundles and the end of certificates, compared with what cryptography reads."""

import datetime

import pytest
import trustme
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from argotun.transport.certificates import certificates, parse


def pem(count=1):
    ca = trustme.CA()
    return b"".join(ca.issue_cert("localhost").cert_chain_pems[0].bytes() for _ in range(count)).decode()


@pytest.mark.parametrize(
    "end",
    [
        datetime.datetime(2026, 11, 21, 10, 30, 59),
        datetime.datetime(2049, 12, 31, 23, 59, 59),
        datetime.datetime(2050, 1, 1),
        datetime.datetime(2038, 1, 20),
        datetime.datetime(9999, 12, 31, 23, 59, 59),
    ],
)
def test_the_end_is_read_in_both_forms_of_time(end):
    end = end.replace(tzinfo=datetime.UTC)
    leaf = trustme.CA().issue_cert("localhost", not_after=end)
    (der,) = certificates(leaf.cert_chain_pems[0].bytes().decode())
    assert x509.load_der_x509_certificate(der).not_valid_after_utc == end
    assert parse(der).not_after == end.timestamp()


def test_a_year_of_the_last_century_is_not_in_the_next():
    end = datetime.datetime(1999, 6, 1, tzinfo=datetime.UTC)
    leaf = trustme.CA().issue_cert(
        "localhost", not_before=datetime.datetime(1998, 1, 1, tzinfo=datetime.UTC), not_after=end
    )
    (der,) = certificates(leaf.cert_chain_pems[0].bytes().decode())
    assert parse(der).not_after == end.timestamp()


def test_a_bundle_gives_all_its_certificates_whatever_is_between():
    text = "# Old CA, é\n" + pem() + "\nbag attributes\n" + pem().replace("\n", "\r\n") + "# the end\n"
    assert len(certificates(text)) == 2
    for der in certificates(text):
        x509.load_der_x509_certificate(der)


@pytest.mark.parametrize(
    "text", ["", "nothing here", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_file_without_a_certificate_is_refused(text):
    with pytest.raises(ValueError, match="no certificate"):
        certificates(text)


@pytest.mark.parametrize("cut", [2, 10, 30, 100, 300])
def test_a_bundle_that_was_half_written_is_not_a_smaller_one(cut):
    with pytest.raises(ValueError, match="cut off"):
        certificates(pem(2)[:-cut])


def test_a_certificate_cut_in_the_middle_of_a_bundle_is_noticed():
    first, second = pem(), pem()
    with pytest.raises(ValueError, match="cut off"):
        certificates(first[:200] + second)


@given(st.binary(max_size=200))
def test_any_bytes_have_an_end_or_are_no_certificate(data):
    try:
        assert isinstance(parse(data).not_after, float)
    except ValueError:
        pass


@given(st.data())
def test_a_damaged_certificate_has_an_end_or_is_none(data):
    damaged = bytearray(DER)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, 140))] = data.draw(st.integers(0, 255))
    try:
        assert isinstance(parse(bytes(damaged)).not_after, float)
    except ValueError:
        pass


(DER,) = certificates(pem())
