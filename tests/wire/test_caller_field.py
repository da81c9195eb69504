"""Argotun-Caller: the server's word to the agent, which no client can say and no API hears."""

import pytest

from argotun.errors import HeadError
from argotun.wire.body import Body
from argotun.wire.head import parse_request, rewrite_request


def head(*fields: str) -> bytes:
    return "\r\n".join(("GET /api HTTP/1.1", "Host: x", *fields, "", "")).encode()


@pytest.mark.parametrize(
    ("fields", "caller"),
    [
        ((), None),
        (("Argotun-Caller: argocd",), b"argocd"),
        (("aRGOTUN-cALLER:\tspiffe://t/ns/a ",), b"spiffe://t/ns/a"),
        (("Argotun-Caller: Argo CD",), b"Argo CD"),
        (("Argotun-Caller: a", "Argotun-Caller: a"), b""),
        (("Argotun-Caller: a,b",), b""),
        (("Argotun-Caller:",), b""),
        (("Argotun-Caller: \xff",), b""),
        (("Argotun-Caller: " + "a" * 257,), b""),
        (("Argotun_Caller: a",), None),
    ],
)
def test_what_is_said_of_the_caller_is_read(fields: tuple[str, ...], caller: bytes | None) -> None:
    assert parse_request(head(*fields)).caller == caller


@pytest.mark.parametrize("name", ["Argotun-Caller", "argotun-caller", "Argotun_Caller", "ARGOTUN-CALLER"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_callers_own_field_is_dropped_and_ours_stays(name: str, times: int) -> None:
    parsed = parse_request(head(*[f"{name}: forged"] * times, "X-Kept: 1"))
    sent = rewrite_request(parsed, b"/api", b"Argotun-Caller: argocd\r\n")
    assert b"forged" not in sent
    assert sent.lower().count(b"argotun") == 1
    assert b"X-Kept: 1" in sent


@pytest.mark.parametrize("name", ["Argotun-Caller", "Impersonate-User", "impersonate-GROUP"])
def test_no_trailer_says_who_asks(name: str) -> None:
    body = Body()
    body.begin(-1)
    with pytest.raises(HeadError):
        body.take(b"0\r\n%b: x\r\n\r\n" % name.encode())


@pytest.mark.parametrize(
    ("field", "does"),
    [
        ("Impersonate-User: x", True),
        ("impersonate-extra-scopes: x", True),
        ("IMPERSONATE-UID: x", True),
        ("X-Impersonate-User: x", False),
        ("Accept: \t impersonate-user: x", False),
        ("Impersonated: x", False),
    ],
)
def test_impersonation_is_seen_however_it_is_written(field: str, does: bool) -> None:
    assert parse_request(head(field)).impersonates is does
