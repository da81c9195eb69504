"""Who is let in: tokens over all clusters, and certificate names."""

import hashlib

import pytest

from argotun.server.auth import Tokens, certificate_allowed, token_digest
from argotun.server.clusters import Cluster


def digest(token):
    return hashlib.sha256(token.encode()).digest()


CLUSTERS = {
    "a": Cluster("a", (digest("alpha"), digest("alpha-next"))),
    "b": Cluster("b", (digest("beta"),)),
}


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (b"Bearer alpha", "a"),
        (b"Bearer alpha-next", "a"),
        (b"Bearer beta", "b"),
        (b"bearer beta", "b"),
        (b" BEARER   beta ", "b"),
    ],
)
def test_a_known_token_names_its_cluster(header, name):
    assert Tokens(CLUSTERS).owner(header) is CLUSTERS[name]


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        b"beta",
        b"Basic beta",
        b"Bearer bet",
        b"Bearer betaa",
        b"Bearer BETA",
        b"Bearer beta x",
        b"Bearer\tbeta",
        b"Bearer beta\x00",
        b"Bearer \xff\xfe",
        b"Bearer " + digest("beta"),
        b"Bearer " + digest("beta").hex().encode(),
    ],
)
def test_anything_else_is_nobody(header):
    assert Tokens(CLUSTERS).owner(header) is None


def test_nobody_is_known_where_there_are_no_clusters():
    assert Tokens({}).owner(b"Bearer beta") is None


def test_nobody_can_know_what_an_offered_token_is_compared_with():
    """So the time that a comparison takes tells nothing: each table has a key of its own, and no digest."""
    one, other = Tokens(CLUSTERS)._owners, Tokens(CLUSTERS)._owners
    assert len(one) == 3
    assert not one.keys() & other.keys()
    assert not one.keys() & {digest("alpha"), digest("alpha-next"), digest("beta")}


def test_a_token_is_found_at_once_among_many_clusters():
    many = {str(n): Cluster(str(n), (digest(f"token-{n}"),)) for n in range(20_000)}
    tokens = Tokens(many)
    looked_at = Counting(tokens._owners)
    tokens._owners = looked_at
    assert tokens.owner(b"Bearer token-19999") is many["19999"]
    assert tokens.owner(b"Bearer wrong") is None
    assert looked_at.times == 2


class Counting(dict):
    """Counts the questions; goes through nothing."""

    times = 0

    def get(self, *arguments):
        self.times += 1
        return super().get(*arguments)

    def values(self):
        raise AssertionError("all of them were looked at")

    __iter__ = keys = items = values


def test_the_digest_of_a_header_is_that_of_its_token():
    assert token_digest(b"Bearer beta") == digest("beta")


# Certificates, as SSLSocket.getpeercert() gives them


CERTIFICATE = {
    "subject": ((("organizationName", "Org"),), (("commonName", "proxy-agent"),)),
    "subjectAltName": (("DNS", "Agent.A.example"), ("DNS", "*.wild.example"), ("email", "a@b.example")),
}
BARE = {"subject": ((("commonName", "proxy-agent"),),)}
SPIFFE = {"subjectAltName": (("URI", "spiffe://x/a"), ("DNS", "agent.a.example"))}


@pytest.mark.parametrize(
    ("certificate", "name"),
    [
        (CERTIFICATE, "agent.a.example"),
        (CERTIFICATE, "AGENT.A.EXAMPLE"),
        (CERTIFICATE, "*.wild.example"),
        (BARE, "proxy-agent"),
        (SPIFFE, "spiffe://x/a"),
    ],
)
def test_a_certificate_with_a_listed_name_is_taken(certificate, name):
    assert certificate_allowed(Cluster("a", (), cert_names=("other", name)), certificate, True)


@pytest.mark.parametrize(
    ("certificate", "name"),
    [
        (CERTIFICATE, "agent.a"),
        (CERTIFICATE, "a.wild.example"),
        (CERTIFICATE, "proxy-agent"),
        (CERTIFICATE, "a@b.example"),
        (CERTIFICATE, "Org"),
        (CERTIFICATE, "agent.a.example."),
        (BARE, "Proxy-Agent"),
        (BARE, "proxy-a\u212aent"),
        (SPIFFE, "agent.a.example"),
        (SPIFFE, "spiffe://X/a"),
    ],
)
def test_a_certificate_without_a_listed_name_is_refused(certificate, name):
    assert not certificate_allowed(Cluster("a", (), cert_names=(name,)), certificate, True)


@pytest.mark.parametrize("certificate", [None, {}])
def test_no_certificate_is_refused_where_names_are_listed(certificate):
    assert not certificate_allowed(Cluster("a", (), cert_names=("a",)), certificate, False)


@pytest.mark.parametrize("certificate", [None, {}, CERTIFICATE])
def test_any_certificate_and_none_is_taken_where_none_is_asked_for(certificate):
    assert certificate_allowed(Cluster("a", ()), certificate, False)
    assert certificate_allowed(Cluster("a", (), cert_names=("*",)), certificate, False)


@pytest.mark.parametrize(("id", "allowed"), [("proxy-agent", True), ("a", False)])
def test_an_entry_without_names_is_bound_to_its_id(id, allowed):
    assert certificate_allowed(Cluster(id, ()), BARE, True) is allowed
    assert not certificate_allowed(Cluster(id, ()), {}, True)


def test_a_star_takes_every_certificate_of_the_ca_and_not_none():
    assert certificate_allowed(Cluster("a", (), cert_names=("*",)), CERTIFICATE, True)
    assert not certificate_allowed(Cluster("a", (), cert_names=("*",)), None, True)
