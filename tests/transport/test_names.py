"""Whose a certificate is: one kind of name, byte for byte."""

from typing import Any

import pytest

from argotun.transport.names import NOBODY, Kind, Listed, Names, names_of


def certificate(*alternative: tuple[str, str], common: tuple[str, ...] = ()) -> dict[str, Any]:
    """As `getpeercert()` gives it."""
    found: dict[str, Any] = {"subject": tuple((("commonName", each),) for each in common)}
    if alternative:
        found["subjectAltName"] = alternative
    return found


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, NOBODY),
        ({}, NOBODY),
        (certificate(common=("argocd",)), Names(Kind.COMMON, ("argocd",))),
        (certificate(("DNS", "ArgoCD"), common=("x",)), Names(Kind.DNS, ("argocd",))),
        (
            certificate(("DNS", "b"), ("URI", "spiffe://t/a"), common=("x",)),
            Names(Kind.URI, ("spiffe://t/a",)),
        ),
        (certificate(("URI", "spiffe://t/A")), Names(Kind.URI, ("spiffe://t/A",))),
        (certificate(("URI", "spiffe://t/a"), ("URI", "spiffe://t/b")), NOBODY),
        (certificate(("email", "argocd"), common=("argocd",)), NOBODY),
        (certificate(("IP Address", "10.0.0.1"), common=("argocd",)), NOBODY),
        (certificate(common=("argocd", "customer-a")), NOBODY),
        (certificate(common=("customer-a", "argocd")), NOBODY),
        (certificate(common=("spiffe://t/a",)), NOBODY),
        (certificate(("DNS", "spiffe://t/a")), NOBODY),
        (certificate(("URI", "argocd"), common=("argocd",)), NOBODY),
    ],
)
def test_a_certificate_speaks_by_one_kind_of_name(given: Any, expected: Names) -> None:
    assert names_of(given) == expected


@pytest.mark.parametrize(
    ("listed", "shown"),
    [
        ("argocd", certificate(common=("argocd",))),
        ("ArgoCD", certificate(common=("ArgoCD",))),
        ("argocd", certificate(("DNS", "other"), ("DNS", "ARGOCD"))),
        ("ARGOCD", certificate(("DNS", "argocd"))),
        ("spiffe://t/argocd", certificate(("URI", "spiffe://t/argocd"))),
        ("*.example", certificate(("DNS", "*.example"))),
        ("größe", certificate(common=("größe",))),
    ],
)
def test_a_listed_name_is_found(listed: str, shown: dict[str, Any]) -> None:
    assert Listed([listed, "another"]).find(names_of(shown))


@pytest.mark.parametrize(
    ("listed", "shown"),
    [
        ("argocd", certificate(common=("ARGOCD",))),
        ("ARGOCD", certificate(common=("argocd",))),
        ("argocd", certificate(common=(" argocd",))),
        ("argocd", certificate(common=("argocd\0",))),
        ("kustomer", certificate(common=("\u212austomer",))),
        ("kustomer", certificate(("DNS", "\u212austomer"))),
        ("\u212austomer", certificate(("DNS", "kustomer"))),
        ("kustomer-s", certificate(common=("kustomer-\u017f",))),
        ("grösse", certificate(common=("größe",))),
        ("argocd", certificate(("email", "argocd"))),
        ("argocd", certificate(("DNS", "x"), common=("argocd",))),
        ("argocd", certificate(common=("x", "argocd"))),
        ("spiffe://t/argocd", certificate(("URI", "spiffe://T/argocd"))),
        ("spiffe://t/argocd", certificate(("URI", "spiffe://t/ARGOCD"))),
        ("a.example", certificate(("DNS", "*.example"))),
        ("*.example", certificate(("DNS", "a.example"))),
    ],
)
def test_a_name_that_is_only_alike_is_not_found(listed: str, shown: dict[str, Any]) -> None:
    assert not Listed([listed, "another"]).find(names_of(shown))
